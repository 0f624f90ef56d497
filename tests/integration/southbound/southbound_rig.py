"""A small site, its twin and its southbound side in one event loop, over real sockets and ptys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from edge.modbus.pacer import Pacer
from edge.modbus.server import TwinServer
from edge.modbus.southbound import Southbound, SouthboundOptions
from reconf.actuation import SlotCommand, VerifiedCommand
from reconf.devices.profile import load_profile
from reconf.protection.limits import default_limits
from reconf.readings import SiteImage
from reconf.site import (
    BusSpec,
    Chemistry,
    ConverterSpec,
    GatewaySpec,
    ModuleSpec,
    PositionSpec,
    Site,
    StringSpec,
)
from reconf.twin.firmware import NodeBank
from reconf.twin.observe import QUIET
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

# read once: parsing the register tables takes half a second
RM1, RC1 = load_profile("rm1"), load_profile("rc1")


def small_site(kind: str = "tcp", n_modules: int = 6, n_strings: int = 1, **gateway: object) -> Site:
    """Strings of `n_modules` four-cell NMC modules, each string behind a gateway of its own."""
    strings, gateways = [], []
    for s in range(n_strings):
        name = f"line-{s}"
        gateways.append(GatewaySpec(name=name, kind=kind, **{"timeout_s": 0.5, "port": 0, **gateway}))
        positions = tuple(
            PositionSpec(
                label=f"{s}-{k}",
                gateway=name,
                unit_id=k + 1,
                module=ModuleSpec(
                    serial=f"T{s}{k:03d}",
                    chemistry=Chemistry.NMC,
                    cell_model="nmc_generic",
                    n_cells=4,
                    n_parallel=1,
                    rated_capacity_ah=60.0,
                    soh_frac=0.8,
                    soh_std_frac=0.05,
                    resistance_scale=1.2,
                    trim_rating_a=5.0,
                    trim_efficiency_frac=0.92,
                ),
                r_on_ohm=0.0005,
            )
            for k in range(n_modules)
        )
        converter = ConverterSpec(
            gateway=name,
            unit_id=201,
            power_rating_w=4000.0,
            current_rating_a=60.0,
            voltage_min_v=3.0 * 4 * (n_modules - 1),
            voltage_max_v=4.3 * 4 * n_modules,
            loss_fixed_w=5.0,
            loss_linear_frac=0.01,
            loss_quadratic_w_per_a2=0.02,
        )
        strings.append(StringSpec(f"S{s}", converter, positions))
    return Site(
        name="small",
        gateways=tuple(gateways),
        strings=tuple(strings),
        bus=BusSpec("pcs", 400.0, 360.0, 440.0),
        limits={c: default_limits(c) for c in Chemistry},
    )


@dataclass
class Rig:
    """Both sides, and what went over the wire."""

    site: Site
    bank: NodeBank
    server: TwinServer
    south: Southbound
    requests: list[tuple[str, int, bytes]] = field(default_factory=list)
    started_s: float = field(default_factory=time.monotonic)
    tick: int = 0

    @property
    def all_modules(self) -> np.ndarray:
        return np.ones(self.site.topology.n_modules, dtype=np.bool_)

    @property
    def all_strings(self) -> np.ndarray:
        return np.ones(self.site.topology.n_strings, dtype=np.bool_)

    async def read(self, budget_s: float | None = None) -> SiteImage:
        self.tick += 1
        return await self.south.read(time.monotonic() - self.started_s, self.tick, budget_s)

    async def read_until(self, condition, limit_s: float = 20.0) -> SiteImage:
        """Ticks of 20 ms until `condition(image)` holds."""
        end = time.monotonic() + limit_s
        while True:
            image = await self.read()
            if condition(image):
                return image
            assert time.monotonic() < end, f"not within {limit_s} s: {image.modules.answered}"
            await asyncio.sleep(0.02)

    def written(self) -> list[tuple[str, int, bytes]]:
        """Requests that change something."""
        return [r for r in self.requests if r[2][0] in (5, 6, 15, 16, 22, 23)]

    def status(self, kind: str, unit: int) -> int:
        """Status word of a node of the first string, as it stands in the twin."""
        profile = RM1 if kind == "rm1" else RC1
        address = profile.register("input", "STATUS").address
        words = self.bank.read(self.site.gateways[0].name, unit, "input", address, 1)
        return int.from_bytes(words or b"", "big")

    def command(self, **changes: object) -> VerifiedCommand:
        safe = SlotCommand.safe(self.site.topology.n_modules, self.site.topology.n_strings)
        return VerifiedCommand(replace(safe, **changes), time.monotonic() - self.started_s, 1.0)

    async def wake(self) -> None:
        """Clear whatever the nodes booted with."""
        await self.read()
        await self.south.clear(self.all_modules, self.all_strings)


def make_bank(site: Site, seed: int = 1, soc_frac: float = 0.6) -> NodeBank:
    rng = np.random.default_rng(seed)
    truth = draw_truth(site, rng, soc_frac=soc_frac, sensor_scale=0.0)
    return NodeBank(site, Plant(site, truth), rng, noise=QUIET, rm1_profile=RM1, rc1_profile=RC1)


def south_of(site: Site, **options: object) -> Southbound:
    return Southbound(site, rm1_profile=RM1, rc1_profile=RC1, **options)


def attached(site: Site, server: TwinServer) -> Site:
    """`site` with the gateways of a running server."""
    gateways = []
    for g in site.gateways:
        endpoint = server.endpoints[g.name]
        if g.kind == "tcp":
            gateways.append(replace(g, port=int(endpoint.rsplit(":", 1)[1])))
        else:
            gateways.append(replace(g, device=endpoint))
    return replace(site, gateways=tuple(gateways))


@asynccontextmanager
async def running(
    site: Site,
    *,
    read_only: bool = False,
    options: SouthboundOptions | None = None,
    real_baud: bool = False,
    time_scale: float = 1.0,
    wall: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Rig]:
    """The rig, with the twin's time passing by the clock that the southbound side goes by too."""
    bank = make_bank(site)
    seen: list[tuple[str, int, bytes]] = []
    server = TwinServer(bank, any_port=True, real_baud=real_baud, tap=lambda g, u, p: seen.append((g, u, p)))
    async with server:
        site = attached(site, server)
        pacer = asyncio.create_task(Pacer(bank, time_scale, wall).run())
        try:
            async with south_of(site, read_only=read_only, options=options, wall=wall) as south:
                yield Rig(site, bank, server, south, seen)
        finally:
            pacer.cancel()
