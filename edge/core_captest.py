"""Capacity test in the core: orders, one step a tick, what is told, what survives a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from edge.core_values import Answer, CoreState, Event, StartCapacityTest, TickInput, TickView
from reconf.arrays import FloatArray
from reconf.binning.lot import Z90
from reconf.captest.learn import learned
from reconf.captest.point import Capacity
from reconf.captest.trial import CapacityTest, Known, advance, begin
from reconf.estimation.memory import FilterState
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.site import Site


def start(site: Site, view: TickView | None, order: StartCapacityTest) -> tuple[CapacityTest | None, Answer]:
    """The test that an order begins or ends, and the answer to it."""
    if not order.active:
        return None, Answer(accepted=True, reason="accepted", text="the capacity test ends")
    names = [s.name for s in site.strings]
    if order.string is not None and order.string not in names:
        text = f"there is no string {order.string!r}; there are {', '.join(names)}"
        return None, Answer(accepted=False, reason="unknown_string", text=text)
    if view is None:
        return None, Answer(accepted=False, reason="not_ready", text="nothing has been read yet")
    strings = np.array([order.string in (None, name) for name in names])
    test = begin(site, view.estimate, strings, order.current_c)
    count = sum(map(len, test.waiting))
    text = f"a capacity test of {count} modules begins, one of each string at a time, while the site serves"
    return test, Answer(accepted=True, reason="accepted", text=text)


def currents_a(given: TickInput) -> FloatArray:
    """(S,) string currents of this tick, 0 where none was read."""
    current = given.image.strings.current_a
    read: FloatArray = np.where(current.usable, np.nan_to_num(current.value), 0.0)
    return read


def tested(
    site: Site, state: CoreState, given: TickInput, estimate: Estimate, envelope: Envelope
) -> CapacityTest | None:
    """The test after this tick, None where none runs."""
    test, memory = state.capacity_test, state.filter
    if test is None or not test.running or not isinstance(memory, FilterState):
        return test
    charge = memory.charge
    known = Known(given.image, estimate, envelope, charge.bias_a, charge.gain_frac, currents_a(given))
    return advance(site, test, known)


def taught(state: CoreState, before: CapacityTest | None) -> CoreState:
    """The filter has learned from results that have just come."""
    test, memory = state.capacity_test, state.filter
    if test is None or test is before or memory is None:
        return state
    known = len(before.results) if before is not None else 0
    for result in test.results[known:]:
        memory = learned(memory, result)
    return replace(state, filter=memory)


def told(time_s: float, before: CapacityTest | None, now: CapacityTest | None) -> tuple[Event, ...]:
    """What changed, one line each."""
    if now is None or before is now:
        return ()
    was = before if before is not None and len(before.trials) == len(now.trials) else None
    events = []
    for s, trial in enumerate(now.trials):
        old = was.trials[s] if was is not None else None
        if trial is not None and (old is None or (old.serial, old.phase) != (trial.serial, trial.phase)):
            events.append(Event(time_s, "capacity_test", trial.serial, trial.phase.value))
    seen = len(was.results) if was is not None else 0
    events += [Event(time_s, "capacity_test", r.serial, sentence(r)) for r in now.results[seen:]]
    lost = len(was.given_up) if was is not None else 0
    events += [
        Event(time_s, "capacity_test", serial, f"given up: {why}") for serial, why in now.given_up[lost:]
    ]
    return tuple(events)


def sentence(result: Capacity) -> str:
    """A result in a line."""
    low, high = result.soc_frac
    return (
        f"capacity {result.capacity_ah:.2f} Ah +-{Z90 * result.std_ah:.2f} (90 %), {result.charge_ah:.2f} Ah "
        f"between SOC {low:.1%} and {high:.1%} in {result.hours:.1f} h at {result.temperature_degc:.0f} degC"
    )


def saved_test(test: CapacityTest | None) -> dict[str, Any] | None:
    """What survives a restart: results and what is left to do. A running trial begins anew."""
    if test is None:
        return None
    waiting = [
        ([trial.serial] if trial is not None else []) + list(rest)
        for trial, rest in zip(test.trials, test.waiting, strict=True)
    ]
    return {
        "current_c": test.current_c,
        "waiting": waiting,
        "results": [asdict(r) for r in test.results],
        "given_up": [list(g) for g in test.given_up],
    }


def restored_test(site: Site, data: Mapping[str, Any] | None) -> CapacityTest | None:
    """Inverse of `saved_test`; modules that are no longer in their string are left out."""
    if data is None or len(data["waiting"]) != len(site.strings):
        return None
    members = [{p.module.serial for p in s.positions} for s in site.strings]
    waiting = tuple(
        tuple(serial for serial in row if serial in there)
        for row, there in zip(data["waiting"], members, strict=True)
    )
    results = tuple(Capacity(**{**r, "soc_frac": tuple(r["soc_frac"])}) for r in data["results"])
    given_up = tuple((str(a), str(b)) for a, b in data["given_up"])
    return CapacityTest(float(data["current_c"]), waiting, (None,) * len(site.strings), results, given_up)
