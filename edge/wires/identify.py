"""Which node is it: its lamp, and a proof of its wiring by the string's voltage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edge.modbus.transport import Link
from edge.wires.checks import watch
from edge.wires.looking import RackOptions
from edge.wires.rack import Rack
from edge.wires.trials import run_tests, string_tests
from reconf.arrays import BoolArray
from reconf.commissioning.insertion import Tried
from reconf.devices import rm1
from reconf.errors import ConfigError, TransportError
from reconf.site import GatewaySpec, Site

SOUND_CELL_V = 2.0
"""A module whose cells all read more is fit to lie beneath another one."""


async def blink(gateway: GatewaySpec, unit_id: int, seconds: int) -> None:
    """Light the lamp of a module's node and read back that it took it.

    Raises:
        TransportError: it did not.
    """
    async with Link(gateway, wall=time.monotonic) as link:
        await link.write(unit_id, rm1.IDENTIFY, [seconds])
        payload = await link.read(unit_id, "holding", rm1.IDENTIFY, 1)
    left = int.from_bytes(payload, "big")
    if seconds and not 0 < left <= seconds:
        raise TransportError(f"unit {unit_id}: IDENTIFY reads back as {left}, {seconds} was written")


@dataclass(frozen=True, slots=True)
class Proof:
    """What inserting one module over two others showed."""

    tried: Tried
    base: tuple[str, ...]
    """Labels of the modules beneath it."""


@dataclass(slots=True)
class Prover:
    """Inserts one module over two others of its string, contactor open, and bypasses it again."""

    site: Site
    module: int
    """In site order."""
    options: RackOptions = field(default_factory=RackOptions)
    say: Callable[[str], None] = lambda _: None
    rack: Rack | None = None

    async def run(self) -> Proof:
        """The proof; the string is left open and bypassed.

        Raises:
            ConfigError: the site is in use, or nothing can be proven, with the reason.
        """
        await watch(self.site)
        async with Rack(self.site, self.options, say=self.say) as rack:
            self.rack = rack
            try:
                return await self._prove(rack)
            finally:
                self.rack = None

    async def _prove(self, rack: Rack) -> Proof:
        topology = self.site.topology
        s = int(topology.string_of[self.module])
        rows = topology.slice_of(s)
        mine: BoolArray = np.zeros(topology.n_modules, dtype=np.bool_)
        mine[rows] = True
        strings: BoolArray = np.zeros(topology.n_strings, dtype=np.bool_)
        strings[s] = True
        image = rack.image
        ready, ready_s = await rack.arm(mine & image.modules.answered, strings)
        if not ready[self.module] or not ready_s[s]:
            raise ConfigError(
                "the node, or its string's converter, is not ready: see its STATUS with `reconf dump`"
            )
        cells = image.modules.cell_voltage_v.value
        has = np.arange(topology.n_cells_max) < topology.n_cells[:, None]
        sound = ready & np.where(has, cells > SOUND_CELL_V, True).all(axis=1)
        only = np.zeros_like(mine)
        only[self.module] = True
        tests, untried = string_tests(rack, ready, sound, only)
        if untried:
            raise ConfigError("; ".join(untried.values()))
        results = await run_tests(rack, tests)
        if s not in results.done:
            raise ConfigError(results.refused.get(s, "nothing could be tried"))
        result = results.done[s]
        start = int(topology.start[s])
        labels = tuple(self.site.positions[start + k].label for k in result.base)
        return Proof(result.tried[0], labels)
