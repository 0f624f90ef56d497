"""The step that proves each module's watchdog: contactors open, a few modules inserted, no heartbeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edge.wires.rack import Rack
from edge.wires.trials import own_voltage, refused_step
from reconf.actuation import Refused
from reconf.arrays import BoolArray, FloatArray
from reconf.commissioning.insertion import base_size
from reconf.commissioning.outcome import Finding, StepOutcome, concluded
from reconf.commissioning.permit import assumed_v, most_trial_v
from reconf.devices.rm1 import LATCHES, Rm1Status
from reconf.site import Site

SLOW_FRAC = 1.1
SLOW_S = 1.0
"""A watchdog may be so much late: the node's own clock, a look every 0.1 s and more on a slow bus."""
EARLY_FRAC = 0.75
LEFT_FRAC = 0.25
"""Of a module's voltage: more than this left in STRING_VOLTAGE means that it is still inserted."""
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Expiry:
    """What one module's watchdog did."""

    latched_s: float
    """After the last heartbeat; inf: not at all."""
    bypassed: bool
    """Its STATUS says bypassed."""


async def watchdogs(rack: Rack, modules: BoolArray, strings: BoolArray, progress: Progress) -> StepOutcome:
    """Step `watchdog`: insert a few, stop feeding them, watch them leave; then clear them in safe order."""
    site = rack.site
    ready_m, ready_s = await rack.arm(modules, strings)
    ready = ready_m & ready_s[site.topology.string_of]
    findings: list[Finding] = []
    slowest_s, checked = 0.0, 0
    for group in _groups(rack, ready):
        outcome = await _starve(rack, group)
        if isinstance(outcome, Refused):
            return refused_step("watchdog", outcome, [s.name for s in site.strings])
        expiries, left = outcome
        for i, expiry in expiries.items():
            checked += 1
            still_in = bool(left[site.topology.string_of[i]])
            findings += _watchdog_findings(rack, i, expiry, still_in=still_in)
            if np.isfinite(expiry.latched_s):
                slowest_s = max(slowest_s, expiry.latched_s)
        progress("")
        await rack.arm(ready, strings)
    untried = {
        site.positions[i].module.serial: "its node, or its string's converter, is not ready"
        for i in map(int, np.flatnonzero(modules & ~ready))
    }
    figures = {"slowest_s": round(slowest_s, 2)}
    return concluded("watchdog", checked, tuple(findings), untried, figures)


def watchdog_rounds(site: Site, modules: BoolArray, volts: FloatArray) -> int:
    """How many groups the step needs: what its time is reckoned from."""
    return len(_group_masks(site, modules, volts, most_trial_v(site)))


def _groups(rack: Rack, modules: BoolArray) -> list[BoolArray]:
    most = most_trial_v(rack.site) - np.nan_to_num(rack.image.strings.voltage_v.value)
    return _group_masks(rack.site, modules, assumed_v(rack.site, rack.image), most)


def _group_masks(site: Site, modules: BoolArray, volts: FloatArray, most_v: FloatArray) -> list[BoolArray]:
    """Groups of modules, (M,) each: as many of each string together as (S,) `most_v` bears."""
    groups: list[BoolArray] = []
    queues: dict[int, list[int]] = {}
    for i in map(int, np.flatnonzero(modules)):
        queues.setdefault(int(site.topology.string_of[i]), []).append(i)
    sizes = {s: base_size(volts[rows], float(most_v[s])) + 1 for s, rows in queues.items()}
    while any(queues.values()):
        group = np.zeros(modules.size, dtype=np.bool_)
        for s, rows in queues.items():
            if sizes[s] == 0:
                rows.clear()
            group[rows[: sizes[s]]] = True
            del rows[: sizes[s]]
        if group.any():
            groups.append(group)
    return groups


async def _starve(rack: Rack, group: BoolArray) -> tuple[dict[int, _Expiry], BoolArray] | Refused:
    """Insert `group`, stop its heartbeats and watch; also (S,) whether voltage is left in the string."""
    topology = rack.site.topology
    idle_v = np.nan_to_num((await rack.settle(1)).strings.voltage_v.value)
    outcome = await rack.insert(group)
    if isinstance(outcome, Refused):
        return outcome
    await rack.settle()
    none = np.zeros(topology.n_strings, dtype=np.bool_)
    await rack.south.heartbeat(group, none, only_due=False)
    rack.fed_modules &= ~group
    starved_s = rack.wall()
    watchdog_s = rack.options.module_watchdog_s
    expiries = {int(i): _Expiry(float("inf"), False) for i in np.flatnonzero(group)}

    def all_expired(_: object) -> bool:
        status, since = rack.image.modules.status, rack.wall() - starved_s
        for i, known in expiries.items():
            latched = bool(status[i] & int(LATCHES))
            inserted = bool(status[i] & int(Rm1Status.INSERTED))
            if latched:
                expiries[i] = _Expiry(min(known.latched_s, since), not inserted)
        return all(np.isfinite(e.latched_s) and e.bypassed for e in expiries.values())

    await rack.until(all_expired, SLOW_FRAC * watchdog_s + SLOW_S)
    image = await rack.settle()
    rack.expired(np.array([i in expiries and expiries[i].bypassed for i in range(group.size)]))
    left = _left_in(rack.site, group, expiries, image.strings.voltage_v.value - idle_v, own_voltage(rack))
    back = await rack.insert(np.zeros_like(group))
    return back if isinstance(back, Refused) else (expiries, left)


def _left_in(
    site: Site, group: BoolArray, expiries: Mapping[int, _Expiry], rise_v: FloatArray, volts: FloatArray
) -> BoolArray:
    """(S,) strings whose voltage says that modules are in which their nodes call bypassed.

    Args:
        site: the site.
        group: (M,) modules that should be out.
        expiries: what each of them did.
        rise_v: (S,) STRING_VOLTAGE over what it was before they were inserted.
        volts: (M,) each module's own voltage.
    """
    said_in = np.array([i in expiries and not expiries[i].bypassed for i in range(group.size)])
    unexplained = rise_v - site.topology.sum_by_string(np.where(said_in, volts, 0.0))
    smallest = np.full(site.topology.n_strings, np.inf)
    np.minimum.at(smallest, site.topology.string_of[group], volts[group])
    left: BoolArray = unexplained > LEFT_FRAC * smallest
    return left


def _watchdog_findings(rack: Rack, i: int, e: _Expiry, *, still_in: bool) -> list[Finding]:
    p, watchdog_s = rack.site.positions[i], rack.options.module_watchdog_s
    expected = f"latched and bypassed {watchdog_s:.1f} s after the last heartbeat"
    remedy = "replace the node: without its watchdog a lost bus leaves the module inserted"
    if not np.isfinite(e.latched_s):
        return [Finding(p.module.serial, p.label, expected, "it never ran out", remedy)]
    if not e.bypassed or still_in:
        found = f"latched after {e.latched_s:.1f} s, but the module stays in the string"
        return [Finding(p.module.serial, p.label, expected, found, remedy)]
    if e.latched_s < EARLY_FRAC * watchdog_s:
        found = f"ran out after {e.latched_s:.1f} s already"
        return [Finding(p.module.serial, p.label, expected, found, "replace the node: its clock is wrong")]
    return []
