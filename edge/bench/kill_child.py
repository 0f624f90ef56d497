"""The daemon's command path (link, gate, ledger, core, keeper) without wires, in a process to be killed."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from edge.clock import ScaledClock
from edge.keeper import Keeper, load_saved
from edge.lasting import Moment
from edge.modbus.southbound import Southbound
from edge.northbound.link import MqttLink
from edge.notify import Notifier
from edge.parts import Parts
from edge.store import Store
from edge.supervisor import Daemon
from edge.wiring import configure_logs
from edge.worker import OptimizerWorker
from reconf.config import load_site
from reconf.site import Site


def site_at(port: int) -> Site:
    """The demo site with its broker on a port of this machine."""
    site = load_site("demo")
    return replace(site, mqtt=replace(site.mqtt, host="127.0.0.1", port=port, protocol="5"))


def serve(port: int, folder: str) -> None:
    """Hear and answer commands until killed. Entry point of the process."""
    configure_logs("error")
    asyncio.run(_serve(site_at(port), Path(folder)))


async def _serve(site: Site, folder: Path) -> None:
    clock = ScaledClock()

    def now() -> Moment:
        return Moment(clock.utc(), clock.wall_s(), clock.control_s())

    with Store.open(folder) as store, ThreadPoolExecutor(max_workers=1) as executor:
        link = MqttLink(site, store=store, executor=executor, own_ingress=False)
        daemon = Daemon(
            Parts(
                site=site,
                clock=clock,
                south=Southbound(site, read_only=True),
                worker=OptimizerWorker(site, clock),
                link=link,
                keeper=Keeper(site, store, executor, now=now),
                executor=executor,
                saved=load_saved(store, now(), site),
                notifier=Notifier(),
            )
        )
        await asyncio.gather(
            link.run(), *(daemon.remote.serve(queue) for queue in (link.commands, link.stops))
        )
