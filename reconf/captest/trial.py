"""A capacity test as a table of phases, one module of each string at a time. Pure.

    APPROACH   towards the nearer end of SOC, by letting the module out of what would lead away from it
    REST_ONE   bypassed until its voltage is open-circuit: the first point
    CARRY      inserted whenever power flows towards the other end, bypassed when it flows back
    REST_TWO   bypassed: the second point, and the capacity between the two

Steering is a preference handed to the allocator, never an order to a node: a module is only held in where
its own limit does not hold the string back, and only held out where the others can hold the converter's
window. Everything is verified as ever, against the envelope without the preference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.captest.point import Capacity, Point, capacity_between, point_at
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.readings import SiteImage
from reconf.site import Site

REST_S = 1200.0
"""Rest before a point: two to four of the slow RC time constants of the cell models."""
QUIET_C = 0.002
"""A module rests while its current stays below this [1/h]."""
POINT_STD_FRAC = 0.012
"""A point is well known below this deviation of SOC."""
END_SOC_FRAC = (0.12, 0.88)
"""An approach has arrived beyond these, if the curve is steep enough there."""
LAST_FRAC = 0.03
"""The end of SOC is reached with this share of the capacity left to move."""
SWING_FRAC = 0.5
"""Least SOC between the points where the site turns round before the end is reached."""
STUCK_S = 48 * 3600.0
"""A phase that lasts longer is given up: this site's duty does not lead there."""
LIMIT_MARGIN = 1.03
"""A module is held in while its own limit is above the string's current by this factor."""
WINDOW_MARGIN = 1.02
"""The others must hold the window's bottom with this margin before a module is held out."""


class Phase(StrEnum):
    """Where a trial stands."""

    APPROACH = "approach"
    REST_ONE = "rest_one"
    CARRY = "carry"
    REST_TWO = "rest_two"


@dataclass(frozen=True, slots=True)
class Trial:
    """One module under test."""

    serial: str
    sign: float
    """Direction of the carrying: +1 discharge, -1 charge."""
    phase: Phase
    since_s: float
    quiet_since_s: float
    """Control time since when no current has flowed; inf while it flows."""
    first: Point | None = None
    deep: bool = False
    """The curve was too flat where it rested first: on to the very end."""


@dataclass(frozen=True, slots=True)
class CapacityTest:
    """The test of a site. By string: what waits and what runs."""

    current_c: float
    """A module is held in up to this string current [1/h]; above, it takes part as any other."""
    waiting: tuple[tuple[str, ...], ...]
    trials: tuple[Trial | None, ...]
    results: tuple[Capacity, ...] = ()
    given_up: tuple[tuple[str, str], ...] = ()
    """(serial, why)."""

    @property
    def running(self) -> bool:
        """Whether anything is left to do."""
        return any(self.waiting) or any(t is not None for t in self.trials)

    def trial_of(self, serial: str) -> Trial | None:
        """The trial of this module, if it runs."""
        return next((t for t in self.trials if t is not None and t.serial == serial), None)


@dataclass(frozen=True, slots=True)
class Known:
    """What a tick knows."""

    image: SiteImage
    estimate: Estimate
    envelope: Envelope
    bias_a: FloatArray
    """(M,) of the module current sensors."""
    gain_frac: FloatArray
    """(M,) over the consensus of the string, less one."""
    string_current_a: FloatArray
    """(S,) measured, discharge positive."""


def begin(site: Site, estimate: Estimate, strings: BoolArray, current_c: float) -> CapacityTest:
    """A test of every module of `strings` (S,), the least known first."""
    doubt = estimate.capacity_std_ah / np.maximum(estimate.capacity_ah, 1e-6)
    waiting = []
    for s in range(len(site.strings)):
        members = np.arange(site.topology.start[s], site.topology.start[s + 1])
        order = members[np.argsort(-doubt[members], kind="stable")]
        waiting.append(tuple(site.topology.serials[m] for m in order) if strings[s] else ())
    return CapacityTest(current_c, tuple(waiting), (None,) * len(site.strings))


def advance(site: Site, test: CapacityTest, known: Known) -> CapacityTest:
    """The test after one tick."""
    for s, trial in enumerate(test.trials):
        if trial is not None:
            test = _one(site, test, s, trial, known)
        if test.trials[s] is None and test.waiting[s]:
            test = _next(site, test, s, known)
    return test


def _put(test: CapacityTest, s: int, trial: Trial | None) -> CapacityTest:
    return replace(test, trials=(*test.trials[:s], trial, *test.trials[s + 1 :]))


def _next(site: Site, test: CapacityTest, s: int, known: Known) -> CapacityTest:
    """Begin with the next module of the string that may take part."""
    serial, *rest = test.waiting[s]
    waiting = (*test.waiting[:s], tuple(rest), *test.waiting[s + 1 :])
    test = replace(test, waiting=waiting)
    m = site.topology.serials.index(serial)
    if not known.estimate.trusted[m]:
        return _give_up(test, s, serial, "its readings are not trusted")
    sign = 1.0 if known.estimate.soc_frac[m] >= 0.5 else -1.0
    now = known.image.time_s
    return _put(test, s, Trial(serial, sign, Phase.APPROACH, now, np.inf))


def _give_up(test: CapacityTest, s: int, serial: str, why: str) -> CapacityTest:
    return replace(_put(test, s, None), given_up=(*test.given_up, (serial, why)))


def _one(site: Site, test: CapacityTest, s: int, trial: Trial, known: Known) -> CapacityTest:
    """One module, one tick."""
    m, now = site.topology.serials.index(trial.serial), known.image.time_s
    current = known.image.modules.current_a
    rated = float(site.topology.rated_capacity_ah[m])
    quiet = bool(current.usable[m]) and abs(float(current.value[m])) < QUIET_C * rated + 0.02
    since = min(trial.quiet_since_s, now) if quiet else np.inf
    trial = replace(trial, quiet_since_s=since)
    if now - trial.since_s > STUCK_S:
        return _give_up(test, s, trial.serial, f"{trial.phase.value} for {STUCK_S / 3600:.0f} h")
    match trial.phase:
        case Phase.APPROACH:
            if _at_end(known, m, trial):
                trial = replace(trial, phase=Phase.REST_ONE, since_s=now, quiet_since_s=np.inf)
        case Phase.CARRY:
            if _carried(known, s, m, trial):
                trial = replace(trial, phase=Phase.REST_TWO, since_s=now, quiet_since_s=np.inf)
        case Phase.REST_ONE | Phase.REST_TWO:
            if now - trial.quiet_since_s >= REST_S:
                return _rested(site, test, s, m, trial, known)
    return _put(test, s, trial)


def _rested(site: Site, test: CapacityTest, s: int, m: int, trial: Trial, known: Known) -> CapacityTest:
    """At rest long enough: the point, and what follows from it."""
    e, now = known.estimate, known.image.time_s
    rated = float(site.topology.rated_capacity_ah[m])
    soh = float(np.clip(e.capacity_ah[m] / rated, 0.2, 1.2))
    point = point_at(site, m, known.image, float(e.polarisation_v[m]), float(e.temperature_degc[m]), soh)
    if point is None:
        return _put(test, s, trial)  # a reading is missing in this tick: the next one has it
    point = _sharper(point, float(e.soc_frac[m]), float(e.soc_std_frac[m]))
    if max(point.soc_std_frac) > POINT_STD_FRAC:
        if trial.phase is Phase.REST_ONE and not trial.deep:
            return _put(test, s, replace(trial, phase=Phase.APPROACH, since_s=now, deep=True))
        return _give_up(test, s, trial.serial, "the curve is too flat where it rested to know its SOC")
    if trial.phase is Phase.REST_ONE:
        return _put(test, s, replace(trial, phase=Phase.CARRY, since_s=now, first=point))
    if trial.first is None:
        raise AssertionError("a second point without a first")
    outcome = capacity_between(
        trial.serial, trial.first, point, bias_a=float(known.bias_a[m]), gain_frac=float(known.gain_frac[m])
    )
    if isinstance(outcome, str):
        return _give_up(test, s, trial.serial, outcome)
    return replace(_put(test, s, None), results=(*test.results, outcome))


def _sharper(point: Point, soc_frac: float, std_frac: float) -> Point:
    """The point, or where the curve says less, what the filter knows of the whole module.

    On a flat curve (LFP) the rest voltage tells nothing but at the very ends; charge counted from there does.
    """
    if max(point.soc_std_frac) <= std_frac:
        return point
    groups = len(point.soc_frac)
    return replace(point, soc_frac=(soc_frac,) * groups, soc_std_frac=(std_frac,) * groups)


def _at_end(known: Known, m: int, trial: Trial) -> bool:
    """The module is near the end it is to be carried from."""
    e = known.estimate
    low, high = END_SOC_FRAC
    if trial.sign > 0.0:
        near = not trial.deep and e.soc_frac[m] >= high
        return bool(near or e.chargeable_ah[m] <= LAST_FRAC * e.capacity_ah[m])
    near = not trial.deep and e.soc_frac[m] <= low
    return bool(near or e.remaining_ah[m] <= LAST_FRAC * e.capacity_ah[m])


def _carried(known: Known, s: int, m: int, trial: Trial) -> bool:
    """The other end is reached, or the site has turned round after a wide enough swing."""
    e, sign = known.estimate, trial.sign
    left = e.remaining_ah[m] if sign > 0.0 else e.chargeable_ah[m]
    if left <= LAST_FRAC * e.capacity_ah[m]:
        return True
    first = trial.first.soc_frac if trial.first is not None else ()
    swing = sign * (float(np.mean(first)) - float(e.soc_frac[m])) if first else 0.0
    turned = float(known.string_current_a[s]) * sign < -0.5
    held_back = _limit_a(known.envelope, m, sign) <= 0.0
    return swing >= SWING_FRAC and (turned or held_back)


def _limit_a(envelope: Envelope, m: int, sign: float) -> float:
    """Instantaneous limit of module `m` in the direction."""
    return float(envelope.discharge_now_a[m] if sign > 0.0 else envelope.charge_now_a[m])
