"""A small site on the twin with built-in faults, over real sockets and ptys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from edge.modbus.pacer import Pacer
from edge.modbus.server import TwinServer
from edge.modbus.twin_control import build_fault
from reconf.devices.profile import load_profile
from reconf.protection.limits import default_limits
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
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

RM1, RC1 = load_profile("rm1"), load_profile("rc1")
WRITES = (5, 6, 15, 16, 22, 23)


def wired_site(
    kind: str = "tcp", n_modules: int = 6, n_strings: int = 1, n_cells: int = 4, timeout_s: float = 0.5
) -> Site:
    """Strings of NMC modules, each string behind a gateway of its own."""
    strings, gateways = [], []
    for s in range(n_strings):
        name = f"line-{s}"
        gateways.append(GatewaySpec(name, kind, port=0, timeout_s=timeout_s))
        module = ModuleSpec("", Chemistry.NMC, "nmc_generic", n_cells, 1, 60.0, 0.8, 0.05, 1.2, 5.0, 0.92)
        positions = tuple(
            PositionSpec(
                f"{'ABC'[s]}{k + 1}", name, k + 1, replace(module, serial=f"W-{'ABC'[s]}{k + 1}"), 5e-4
            )
            for k in range(n_modules)
        )
        low_v, high_v = 2.9 * n_cells * (n_modules - 1), 4.3 * n_cells * n_modules
        converter = ConverterSpec(name, 201, 4000.0, 60.0, low_v, high_v, 5.0, 0.01, 0.02)
        strings.append(StringSpec("ABC"[s], converter, positions))
    return Site(
        name="wired",
        gateways=tuple(gateways),
        strings=tuple(strings),
        bus=BusSpec("pcs", 400.0, 360.0, 440.0),
        limits={c: default_limits(c) for c in Chemistry},
    )


@dataclass
class Wires:
    """The twin's side, and what went over the wire."""

    site: Site
    bank: NodeBank
    server: TwinServer
    requests: list[tuple[str, int, bytes]] = field(default_factory=list)

    def written(self) -> list[tuple[str, int, bytes]]:
        """Requests that change something."""
        return [r for r in self.requests if r[2][0] in WRITES]


@asynccontextmanager
async def wires(
    site: Site, faults: Sequence[str] = (), *, time_scale: float = 10.0, soc_frac: float = 0.6, seed: int = 1
) -> AsyncIterator[Wires]:
    """The twin of `site` with its time passing; `site` of the result names where it really listens."""
    rng = np.random.default_rng(seed)
    bank = NodeBank(
        site, Plant(site, draw_truth(site, rng, soc_frac=soc_frac)), rng, rm1_profile=RM1, rc1_profile=RC1
    )
    seen: list[tuple[str, int, bytes]] = []
    async with TwinServer(bank, any_port=True, tap=lambda g, u, p: seen.append((g, u, p))) as server:
        for text in faults:
            build_fault(server, text)
        pacer = asyncio.create_task(Pacer(bank, time_scale, time.monotonic).run())
        try:
            yield Wires(_attached(site, server), bank, server, seen)
        finally:
            pacer.cancel()


def _attached(site: Site, server: TwinServer) -> Site:
    gateways = []
    for g in site.gateways:
        at = server.endpoints[g.name]
        where = {"port": int(at.rsplit(":", 1)[1])} if g.kind == "tcp" else {"device": at}
        gateways.append(replace(g, **where))
    return replace(site, gateways=tuple(gateways))
