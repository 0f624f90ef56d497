"""The one place where the daemon's parts are made and put together."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from edge.clock import Clock, ScaledClock, date_trusted
from edge.core_state import SavedCore
from edge.endpoints import host_port, reached_at
from edge.keeper import Keeper, load_saved
from edge.lasting import Lasting, Moment
from edge.modbus.blocks import Freshness
from edge.modbus.southbound import Southbound, SouthboundOptions
from edge.northbound.gate import Surroundings
from edge.northbound.link import MqttLink
from edge.notify import Notifier
from edge.onsite.door import onsite_door
from edge.parts import Parts
from edge.rehearsal import rehearse
from edge.sparkplug_feed import sparkplug_feed
from edge.store.store import LEDGER_FILE, Store
from edge.sunspec_feed import sunspec_feed
from edge.supervisor import Daemon
from edge.worker import Allocate, OptimizerWorker, default_allocate
from reconf.errors import ConfigError, StoreError
from reconf.isolation import UNREADABLE
from reconf.loopback import is_loopback
from reconf.site import Site

PTY_PREFIX = "/dev/pts/"
LOST_WALL_S = 3.0
"""Wall time for which the last good reading is kept, however fast control time runs."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says."""

    gateways: Mapping[str, str]
    """Name of a gateway to HOST:PORT or a serial device."""
    broker: str = ""
    state_dir: Path | None = None
    time_scale: float = 1.0
    read_only: bool = False
    northbound: bool = True
    clock: str = "auto"


def override(site: Site, options: RunOptions) -> Site:
    """`site` with the gateways and the broker of the command line.

    Raises:
        ConfigError: a name or an address is wrong, or a time scale reaches beyond this machine.
    """
    names = {g.name for g in site.gateways}
    for name in options.gateways:
        if name not in names:
            raise ConfigError(f"--gateway {name}: this site has {', '.join(sorted(names))}")
    gateways = tuple(reached_at(g, options.gateways.get(g.name, "")) for g in site.gateways)
    mqtt = site.mqtt
    if options.broker:
        host, port = host_port(options.broker, "--broker")
        mqtt = replace(mqtt, host=host, port=port)
    changed = replace(site, gateways=gateways, mqtt=mqtt)
    if options.time_scale != 1.0:
        _refuse_scaled(changed, options.time_scale)
    return changed


def _refuse_scaled(site: Site, time_scale: float) -> None:
    """Scaled time is for a twin on this machine: real modules do not hurry."""
    for gateway in site.gateways:
        local = is_loopback(gateway.host) if gateway.kind == "tcp" else gateway.device.startswith(PTY_PREFIX)
        if not local:
            where = gateway.host if gateway.kind == "tcp" else gateway.device
            raise ConfigError(
                f"--time-scale {time_scale:g} is refused: gateway {gateway.name} is at {where}, "
                "which is not a loopback address or a pty of this machine"
            )


def configure_logs(level: str = "info") -> None:
    """Logs to stderr: for people on a terminal, else one JSON object per line."""
    pretty = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


@asynccontextmanager
async def daemon(
    site: Site,
    options: RunOptions,
    *,
    clock: Clock | None = None,
    allocate: Allocate = default_allocate,
) -> AsyncIterator[Daemon]:
    """A daemon whose parts are up; they are taken down in order afterwards.

    Raises:
        ConfigError: the options do not fit the site.
    """
    site = override(site, options)
    rehearse()  # before a node is asked anything: what is compiled while a watchdog runs would let it run out
    clock = clock or ScaledClock(scale=options.time_scale)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the worker: small problems, one core
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="disk")
    ledger_executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
    store, trouble = open_store(options)
    trusted = date_trusted(options.clock, commands_local=is_loopback(site.mqtt.host))

    def now() -> Moment:
        return Moment(clock.utc(), clock.wall_s(), clock.control_s(), clock.scale, trusted)

    try:
        saved = SavedCore()
        if store is not None:
            try:
                saved = load_saved(store, now(), site)
            except StoreError as error:
                trouble = str(error)
                saved = SavedCore(lasting=Lasting(maintenance=UNREADABLE))
        elif remembers(options.state_dir):
            saved = SavedCore(lasting=Lasting(maintenance=UNREADABLE))
        keeper = Keeper(site, store, executor, now=now)
        keeper.trouble = keeper.trouble or trouble
        held: list[Daemon] = []
        link = None
        if options.northbound:
            around = Surroundings(
                utc=clock.utc,
                wall_s=clock.wall_s,
                clock_trusted=lambda: trusted,
                local_lock=lambda: bool(held) and held[0].maintenance,
            )
            # where no state directory was asked for, nothing can be put on record and nobody expects it
            missing = trouble if store is None and options.state_dir is not None else ""
            link = MqttLink(
                site,
                store=store,
                executor=executor,
                ledger_executor=ledger_executor,
                around=around,
                store_text=missing,
            )
        tuned = SouthboundOptions(freshness=freshness(clock.scale))
        south = Southbound(site, read_only=options.read_only, wall=clock.wall_s, options=tuned)
        async with OptimizerWorker(site, clock, allocate=allocate) as worker, south:
            made = Daemon(
                Parts(
                    site=site,
                    clock=clock,
                    south=south,
                    worker=worker,
                    link=link,
                    keeper=keeper,
                    executor=executor,
                    saved=saved,
                    notifier=Notifier(),
                    read_only=options.read_only,
                    clock_trusted=trusted,
                )
            )
            held.append(made)
            async with (
                sunspec_feed(
                    site,
                    lambda: None if made.outcome is None else made.outcome.view,
                    None if options.read_only else link,
                    wall=clock.wall_s,
                    utc=clock.utc,
                ),
                sparkplug_feed(
                    site,
                    lambda: None if made.outcome is None else made.outcome.view,
                    link,
                    store=store,
                    executor=executor,
                    read_only=options.read_only,
                    utc=clock.utc,
                    wall_s=clock.wall_s,
                ),
                onsite_door(made, options.state_dir),
            ):
                yield made
    finally:
        for one in (ledger_executor, executor):
            one.shutdown(wait=True)
        if store is not None:
            store.close()


def remembers(folder: Path | None) -> bool:
    """An earlier run has left something in `folder`, whether it can be read or not."""
    return folder is not None and (folder / LEDGER_FILE).exists()


def freshness(time_scale: float) -> Freshness:
    """When a reading is lost: in control time, but never before a busy machine could have read again."""
    usual = Freshness()
    return replace(usual, lost_after_s=max(usual.lost_after_s, LOST_WALL_S * time_scale))


def open_store(options: RunOptions) -> tuple[Store | None, str]:
    """The state directory, or none and why: control goes on without it and says so.

    Raises:
        ConfigError: another process owns it; two daemons must not run one site.
    """
    if options.state_dir is None:
        return None, "no state directory was given"
    try:
        return Store.open(options.state_dir), ""
    except StoreError as error:
        if "another process" in str(error):
            raise ConfigError(str(error)) from error
        structlog.get_logger("wiring").warning("store_not_opened", error=str(error))
        return None, str(error)
