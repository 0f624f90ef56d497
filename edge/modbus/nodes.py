"""The nodes and lines of a site."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edge.modbus.line import Line, Node
from reconf.devices.profile import DeviceProfile
from reconf.devices.rc1 import Rc1Codec
from reconf.devices.rm1 import Rm1Codec
from reconf.registers import na_pattern
from reconf.site import Site


def nodes_of(site: Site, rm1_codec: Rm1Codec, rc1_codec: Rc1Codec) -> tuple[list[Node], list[Node]]:
    """All module nodes in site order, then all converters."""
    modules, strings = [], []
    for i, position in enumerate(site.positions):
        p = rm1_codec.profile
        prefix = np.array([p.magic, p.map_version, position.module.n_cells], dtype=">u2").tobytes()
        count = int(rm1_codec.read_counts[i])
        modules.append(
            Node(i, "rm1", i, position.unit_id, position.module.serial, count, prefix, *_status(p))
        )
    for s, string in enumerate(site.strings):
        p = rc1_codec.profile
        prefix = np.array([p.magic, p.map_version], dtype=">u2").tobytes()
        unit, count = string.converter.unit_id, rc1_codec.block.count
        strings.append(Node(len(modules) + s, "rc1", s, unit, string.name, count, prefix, *_status(p)))
    return modules, strings


def _status(profile: DeviceProfile) -> tuple[int, bytes]:
    """Byte of STATUS in an input block, and what stands there where it is not available."""
    register = profile.register("input", "STATUS")
    missing = na_pattern(register.type).to_bytes(2 * register.type.words, "big")
    return 2 * register.address, missing if register.na_applies else b""


def lines_of(
    site: Site,
    modules: Sequence[Node],
    strings: Sequence[Node],
    wall: Callable[[], float],
    *,
    read_only: bool,
) -> list[Line]:
    """One line per gateway; converters first, so that they are never read last."""
    by_gateway: dict[str, list[Node]] = {g.name: [] for g in site.gateways}
    for string, node in zip(site.strings, strings, strict=True):
        by_gateway[string.converter.gateway].append(node)
    for position, node in zip(site.positions, modules, strict=True):
        by_gateway[position.gateway].append(node)
    used = {name for name, nodes in by_gateway.items() if nodes} | {unit.gateway for unit in site.io}
    return [Line(g, tuple(by_gateway[g.name]), wall, read_only) for g in site.gateways if g.name in used]
