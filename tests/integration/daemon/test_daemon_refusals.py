"""A node that answers and takes no writes: one latched fault, nothing asked of it, and the way back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from daemon_rig import CONTACTOR, INSERT, SCALE, daemon_on, fast_site, field_of, order, serve_power, until

from edge.clock import ScaledClock
from edge.core_values import ClearFault, SetMode, TickView
from edge.modbus import refusals
from reconf.protection.envelope import FaultStatus, Insertion
from reconf.sequences import SiteMode

pytestmark = pytest.mark.timeout(180)

REFUSES = {"write_exception": 4}
SWALLOWS = {"swallows_writes": True}
TOLD = {"write_exception": "exception 4 device failure", "swallows_writes": "acknowledged, but"}


def fault(view: TickView, name: str) -> FaultStatus | None:
    return next((f for f in view.envelope.faults if f.fault == name), None)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that refused is tried again after half a second, not ten."""
    monkeypatch.setattr(refusals, "TRY_AGAIN_S", 0.5)


@pytest.mark.parametrize("how", [REFUSES, SWALLOWS])
async def test_a_module_that_takes_no_writes_leaves_by_its_own_watchdog_and_says_so(how) -> None:
    async with field_of(fast_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        await serve_power(made, twin)
        serial = twin.site.modules[1].serial
        broken = twin.server.faults.unit("line-0", 2)
        for name, value in how.items():
            setattr(broken, name, value)
        view = await until(made, lambda v: fault(v, "module_writes_refused") is not None)
        seen = fault(view, "module_writes_refused")
        assert (seen.subject, seen.latched, seen.severity) == (serial, True, "bypass")
        assert "unit 2, holding register" in seen.evidence
        assert TOLD[next(iter(how))] in seen.evidence
        assert "then clear" in seen.action
        if twin.bank.plant.inputs.inserted[1]:
            assert view.envelope.insertion[1] == int(Insertion.FORCED), "it counts as what it reads"
        await until(made, lambda v: not twin.bank.plant.inputs.inserted[1])
        view = await until(made, lambda v: v.envelope.insertion[1] == int(Insertion.FORBIDDEN))
        assert view.phases == ("joined", "joined"), "three modules reach the window"
        before = len(twin.writes)
        await asyncio.sleep(2.0)
        asked = [w for _, w, _ in twin.register_writes(lambda u: u == 2, INSERT)]
        assert not [w for w in asked if twin.writes.index(w) >= before], "nothing is asked of it"
        answer = made.order(ClearFault("module_writes_refused", serial))
        assert not answer.accepted
        assert "persists" in answer.text
        twin.server.faults.heal("line-0", 2)
        await until(made, lambda v: not fault(v, "module_writes_refused").active)
        assert made.order(ClearFault("module_writes_refused", serial)).accepted
        view = await until(made, lambda v: not v.out_of_service.any())
        assert fault(view, "module_writes_refused") is None


@pytest.mark.parametrize("how", [REFUSES, SWALLOWS])
async def test_a_converter_that_takes_no_writes_counts_as_lost_and_the_other_serves(how) -> None:
    async with field_of(fast_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        await serve_power(made, twin)
        broken = twin.server.faults.unit("line-0", 201)
        for name, value in how.items():
            setattr(broken, name, value)
        view = await until(made, lambda v: fault(v, "converter_writes_refused") is not None)
        seen = fault(view, "converter_writes_refused")
        assert (seen.subject, seen.latched, seen.severity) == ("S0", True, "open_string")
        assert "unit 201, holding register" in seen.evidence
        assert "disconnector" in seen.action
        await until(made, lambda v: v.phases == ("open", "joined"))
        assert twin.closed == [False, True]
        assert twin.bank.link_shorts == 0
        moves = [e for e in made.core.state.protection.events if e.fault == "converter_writes_refused"]
        assert len(moves) <= 1
        twin.server.faults.heal("line-0", 201)
        await until(made, lambda v: not fault(v, "converter_writes_refused").active)
        await asyncio.sleep(1.0)
        assert not twin.closed[0], "it comes back when somebody has cleared it"
        assert made.order(ClearFault("converter_writes_refused", "S0")).accepted


async def test_a_converter_that_does_not_take_its_watchdog_time_is_never_closed_and_says_so_once() -> None:
    async with field_of(fast_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        twin.server.faults.unit("line-0", 201).swallowed_register = 1
        order(made, SetMode(SiteMode.RUN))
        holding, asked = twin.bank.rc1.bank.holding, set()

        def noted(condition: Callable[[TickView], bool]) -> Callable[[TickView], bool]:
            def look(view: TickView) -> bool:
                asked.add((int(holding[0, CONTACTOR]), int(holding[1, CONTACTOR])))
                return condition(view)

            return look

        view = await until(made, noted(lambda v: fault(v, "converter_writes_refused") is not None), 20.0)
        seen = fault(view, "converter_writes_refused")
        assert (seen.subject, seen.latched, seen.severity) == ("S0", True, "open_string")
        assert "unit 201, holding register 1 WATCHDOG" in seen.evidence
        await until(made, noted(lambda v: v.phases[1] == "joined"), 25.0)
        await asyncio.sleep(1.0)
        assert twin.closed == [False, True]
        assert asked == {(0, 0), (0, 1)}, "the other alone is asked to close"
        events = [e for e in made.core.state.protection.events if e.fault == "converter_writes_refused"]
        assert len(events) <= 1


async def test_one_refused_write_is_no_fault() -> None:
    async with field_of(fast_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        await serve_power(made, twin)
        broken = twin.server.faults.unit("line-0", 2)
        broken.write_exception = 4
        await until(made, lambda v: bool(v.input.image.refusals))
        twin.server.faults.heal("line-0", 2)
        view = await until(made, lambda v: v.input.image.refusals == ())
        assert fault(view, "module_writes_refused") is None
        assert not np.any(view.out_of_service)
