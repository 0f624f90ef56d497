"""Commissioning over real sockets and a pty: a healthy site passes, built-in faults are found and named."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from wires_rig import Wires, wired_site, wires

from edge.wires.commission import Commissioning, Options, Talk, overall
from edge.wires.looking import RackOptions
from reconf.commissioning.outcome import StepOutcome, Verdict
from reconf.commissioning.steps import STEPS, Step
from reconf.errors import ConfigError

SCALE = 10.0
RACK = RackOptions(module_watchdog_s=3.0, string_watchdog_s=1.5, time_scale=SCALE, look_every_s=0.03)
QUICK = Options(RACK, line_exchanges=300, watch_s=0.6)
EARLIER = ("identity", "line", "voltage", "temperature", "latches", "switch", "watchdog", "trim")
PROVEN = {step: StepOutcome(step, Verdict.PASS, 1) for step in EARLIER}
ON_STRINGS = frozenset(s.step for s in STEPS if s.on_strings)


async def agree(_: Step, __: float) -> bool:
    return True


def commissioning(w: Wires, *, skip: frozenset[str] = frozenset(), **talk: object) -> Commissioning:
    return Commissioning(w.site, replace(QUICK, skip=skip), Talk(**{"ask": agree, **talk}))  # type: ignore[arg-type]


def faults(outcomes: dict[str, StepOutcome]) -> dict[str, set[str]]:
    """Positions with a fault, by step."""
    return {
        k: {f.position or f.subject for f in o.findings if f.fault} for k, o in outcomes.items() if o.faulty
    }


async def left_safe(w: Wires) -> bool:
    """Open, bypassed, and never a link shorted or a contactor opened under load on the way."""
    await asyncio.sleep(0.15)  # the twin's physics takes over commands at its next turn
    inserted = w.bank.plant.inputs.inserted & (w.bank.rm1.faults.stuck != 1)
    assert w.bank.link_shorts == w.bank.rc1.opened_under_load == 0
    return not (w.bank.rc1.closed.any() or inserted.any())


async def test_a_healthy_site_passes_and_is_left_open_and_bypassed():
    async with wires(wired_site(), ["gradient@A=4.0"], time_scale=SCALE) as w:
        outcomes = await commissioning(w).run()
        assert {o.verdict for o in outcomes.values()} == {Verdict.PASS}, outcomes
        assert overall(outcomes) is Verdict.PASS
        assert await left_safe(w)
        assert not w.bank.plant.violations.by_rule
        assert outcomes["contactor"].checked == outcomes["power"].checked == 1
        assert w.bank.plant.energy.bus_out_j[0] > 0.0
        assert w.bank.plant.energy.bus_in_j[0] > 0.0


async def test_a_trip_that_does_not_fit_the_chemistry_is_remarked_and_fails_nothing():
    others = frozenset(s.step for s in STEPS) - {"answers", "identity"}
    async with wires(wired_site(), time_scale=SCALE) as w:
        trips = w.bank.rm1.bank.holding
        trips[1, 113], trips[2, 115] = 4100, 1200  # mV, 0.1 degC
        outcome = (await commissioning(w, skip=others).run())["identity"]
    assert outcome.verdict is Verdict.PASS
    found = {f.position: f for f in outcome.findings}
    assert set(found) == {"A2", "A3"}
    assert not any(f.fault for f in outcome.findings)
    assert "4.1 V, inside the operating limit of 4.2 V" in found["A2"].found
    assert "TRIP_CELL_MAX" in found["A2"].expected
    assert "120 degC, far beyond" in found["A3"].found


async def test_every_built_in_fault_is_found_at_its_position_and_nobody_else_is_accused():
    built_in = [
        "swapped@W-A1,W-C1", "reversed@W-A2", "stuck-bypassed@W-A3", "crossed@W-A5", "stuck-inserted@W-B2",
        "unit@W-B3=77", "watchdog@W-B4", "temperature@W-C5=2.0", "trim@W-C6",
    ]  # fmt: skip
    async with wires(wired_site(n_strings=3), built_in, time_scale=SCALE) as w:
        w.server.bank.plant.truth.temperature_offset_k[:] = 0.0
        run = commissioning(w)
        outcomes = await run.run()
        assert faults(outcomes) == {
            "answers": {"B3"},
            "identity": {"A1", "C1"},
            "voltage": {"A2"},
            "temperature": {"C5"},
            "switch": {"A2", "A3", "A5", "B2"},
            "watchdog": {"B4"},
            "trim": {"C6"},
        }
        assert all(f.remedy for o in outcomes.values() for f in o.findings)
        assert all(outcomes[s].verdict is Verdict.NOT_TRIED for s in ON_STRINGS)
        assert await left_safe(w)
        assert not w.bank.rc1.closed.any()


async def test_a_noisy_line_is_found_on_a_serial_bus_and_keeps_everything_else_off_it():
    async with wires(wired_site("rtu", timeout_s=0.1), ["noise@line-0=0.06"], time_scale=SCALE) as w:
        outcomes = await commissioning(w).run()
        assert faults(outcomes)["line"] == {"line-0"}
        assert "120 ohm" in outcomes["line"].findings[0].remedy
        assert outcomes["switch"].verdict is Verdict.NOT_TRIED
        assert not w.written()


async def test_switches_are_proven_over_a_serial_bus():
    skip = ON_STRINGS | {"watchdog", "trim", "line", "temperature"}
    built_in = ["stuck-bypassed-unseen@W-A3", "string-leads@B"]
    async with wires(wired_site("rtu", n_modules=4, n_strings=2), built_in, time_scale=SCALE) as w:
        outcomes = await commissioning(w, skip=skip).run()
        assert faults(outcomes) == {"switch": {"A3", "string B"}}
        assert "stuck bypassed" in outcomes["switch"].findings[0].found
        assert "moves with none of 4 modules" in outcomes["switch"].findings[1].found
        assert overall(outcomes) is Verdict.FAIL
        assert await left_safe(w)


async def test_converters_that_do_not_close_or_do_not_let_go_are_found():
    built_in = ["contactor@A", "converter-watchdog@B"]
    async with wires(wired_site(n_modules=3, n_strings=2), built_in, time_scale=SCALE) as w:
        run = commissioning(w)
        run.outcomes = dict(PROVEN)
        outcomes = await run.run()
        assert {k: {f.subject for f in o.findings} for k, o in outcomes.items() if o.faulty} == {
            "contactor": {"A"},
            "converter_watchdog": {"B"},
        }
        assert await left_safe(w)


async def test_declining_writes_nothing():
    async def decline(_: Step, __: float) -> bool:
        return False

    async with wires(wired_site(n_modules=3), time_scale=SCALE) as w:
        outcomes = await commissioning(w, skip=frozenset({"line"}), ask=decline).run()
        assert outcomes["latches"].verdict is Verdict.NOT_TRIED
        assert not w.written()


async def test_a_site_in_use_is_refused_before_anything_is_written():
    async with wires(wired_site(n_modules=3), time_scale=SCALE) as w:
        feeding = asyncio.create_task(_feed(w))
        with pytest.raises(ConfigError, match="somebody else feeds"):
            await commissioning(w).run()
        feeding.cancel()
        await asyncio.sleep(0.01)
        w.bank.rc1.closed[0] = w.bank.rc1.faults.welded[0] = True
        with pytest.raises(ConfigError, match="contactor reads closed"):
            await commissioning(w).run()
        assert not w.written()


async def _feed(w: Wires) -> None:
    for k in range(1000):
        w.bank.write("line-0", 201, 0, [k])
        await asyncio.sleep(0.2)


async def test_an_interruption_behind_a_closed_contactor_opens_it_before_anything_is_bypassed():
    async with wires(wired_site(n_modules=3), time_scale=SCALE) as w:
        run = commissioning(w)
        run.outcomes = dict(PROVEN)
        task = asyncio.create_task(run.run())
        while not w.bank.rc1.closed[0]:
            await asyncio.sleep(0.02)
            assert not task.done()
        task.cancel()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await left_safe(w)


async def test_a_fault_behind_a_closed_contactor_breaks_the_trial_off_and_leaves_in_order():
    async with wires(wired_site(n_modules=3), time_scale=SCALE) as w:
        run = commissioning(w)
        run.outcomes = dict(PROVEN)
        task = asyncio.create_task(run.run())
        while not w.bank.rc1.closed[0]:
            await asyncio.sleep(0.02)
            assert not task.done()
        w.bank.rc1.faults.hardware[0] = True
        outcomes = await task
        assert overall(outcomes) is Verdict.FAIL
        assert "hardware fault" in str(outcomes) or "converter_fault" in str(outcomes)
        assert await left_safe(w)


@pytest.mark.soak
async def test_an_interruption_at_any_moment_leaves_the_site_open_and_bypassed():
    rng = np.random.default_rng(7)
    async with wires(wired_site(n_modules=3), time_scale=SCALE) as w:
        for _ in range(40):
            run = commissioning(w)
            run.outcomes = dict(PROVEN)
            task = asyncio.create_task(run.run())
            await asyncio.sleep(1.0 + rng.uniform(0.0, 6.0))
            for _ in range(int(rng.integers(1, 3))):
                task.cancel()
                await asyncio.sleep(rng.uniform(0.0, 0.1))
            await asyncio.wait({task})
            assert await left_safe(w)


async def test_what_passed_is_not_done_again():
    async with wires(wired_site(n_modules=3), time_scale=SCALE) as w:
        skip = ON_STRINGS | {"watchdog", "line", "switch"}
        first = await commissioning(w, skip=skip).run()
        again = commissioning(w, skip=skip, began=(began := []).append)
        again.outcomes = dict(first)
        await again.run()
        assert [s.step for s in began] == ["answers"]
