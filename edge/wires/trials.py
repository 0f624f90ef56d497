"""Steps of commissioning that write behind open contactors: latches, switches, watchdogs, trim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edge.wires.rack import Rack
from reconf.actuation import Refused
from reconf.arrays import BoolArray, FloatArray
from reconf.commissioning.insertion import (
    Look,
    StringTest,
    Switch,
    Test,
    Tried,
    base_size,
    try_string,
)
from reconf.commissioning.outcome import Finding, StepOutcome, Verdict, concluded
from reconf.commissioning.permit import most_trial_v, strings_named
from reconf.commissioning.rules import Trial
from reconf.commissioning.trim import judge_trim, trim_pattern
from reconf.devices.describe import bits_text
from reconf.devices.profile import load_profile
from reconf.devices.rm1 import Rm1Status
from reconf.site import Site
from reconf.words import quantity

TRIM_FLOWS_S = 2.0
"""MODULE_CURRENT is a mean over the last second."""
Progress = Callable[[str], None]

REMEDY = {
    Switch.BACKWARDS: "module or leads reversed, it counts against its string: isolate, swap + and - there",
    Switch.STUCK_BYPASSED: "the switch never inserts: check the node's drive and fuse, else replace the node",
    Switch.STUCK_INSERTED: "the switch never bypasses: replace the node before this string is ever closed",
    Switch.DEAD: "the switch does not move: replace the node before this string is ever closed",
    Switch.STAYS_IN: "it inserts and sticks: replace the node before this string is ever closed",
    Switch.DISAGREES: "not this module's voltage: a joint, a wrong module, or one of the two meters",
}


def refusal(refused: Refused, subject: str = "") -> str:
    """Why a state was not let through, in one line; of one `subject` where that is named."""
    told = [v for v in refused.violations if v.subject == subject] or refused.violations
    return "; ".join(
        f"{v.text} ({v.subject}: {quantity(v.found)} against {quantity(v.allowed, v.unit)})" for v in told[:3]
    )


def refused_step(step: str, refused: Refused, names: Sequence[str]) -> StepOutcome:
    """A step that could not be tried, because what it would write was not let through."""
    text = f"not let through: {refusal(refused)}"
    return StepOutcome(step, Verdict.NOT_TRIED, untried=dict.fromkeys(names, text), text=text)


# ---- latches -----------------------------------------------------------------------------------


async def latches(rack: Rack, modules: BoolArray, strings: BoolArray) -> StepOutcome:
    """Set watchdogs and clear the latches every node boots with."""
    ready_m, ready_s = await rack.arm(modules, strings)
    image, site = rack.image, rack.site
    findings: list[Finding] = []
    for i in map(int, np.flatnonzero(modules & ~ready_m)):
        p = site.positions[i]
        text = bits_text(load_profile("rm1"), int(image.modules.status[i]))
        findings.append(
            Finding(
                p.module.serial, p.label, "fed, WATCHDOG set, no latch", text,
                "a trip stays: find its cause, clear it by hand; else check the node's write access",
            )
        )  # fmt: skip
    for s in map(int, np.flatnonzero(strings & ~ready_s)):
        name = site.strings[s].name
        text = bits_text(load_profile("rc1"), int(image.strings.status[s]))
        remedy = "read the converter's own log; an emergency stop must be released first"
        findings.append(Finding(name, f"converter {name}", "fed, WATCHDOG set, no latch", text, remedy))
    return concluded("latches", int(modules.sum() + strings.sum()), tuple(findings))


# ---- switches ----------------------------------------------------------------------------------


def string_tests(
    rack: Rack, modules: BoolArray, sound: BoolArray, only: BoolArray | None = None
) -> tuple[dict[int, Test], dict[str, str]]:
    """A test for every string with modules in `modules`, and why some strings cannot be tried."""
    site, volts = rack.site, own_voltage(rack)
    # what stands in a string with everybody bypassed is stuck inserted, and leaves less room
    most = most_trial_v(site) - np.nan_to_num(rack.image.strings.voltage_v.value)
    tests: dict[int, Test] = {}
    untried: dict[str, str] = {}
    for s, spec in enumerate(site.strings):
        rows = site.topology.slice_of(s)
        if not modules[rows].any() or (only is not None and not only[rows].any()):
            continue
        if base_size(volts[rows][modules[rows]], float(most[s])) < 0:
            untried[spec.name] = (
                f"no module can be inserted alone well below its window, which begins at "
                f"{spec.converter.voltage_min_v:g} V"
            )
            continue
        chosen = None if only is None else [int(k) for k in np.flatnonzero(only[rows])]
        tests[s] = try_string(volts[rows], modules[rows], sound[rows], float(most[s]), chosen)
    return tests, untried


def own_voltage(rack: Rack) -> FloatArray:
    """(M,) voltage each module must show in its string: its reading, or its kind's where it has none."""
    site, read = rack.site, rack.image.modules.voltage_v
    n_cells = site.topology.n_cells.astype(np.float64)
    per_cell = np.where(read.good & (read.value > n_cells), read.value / n_cells, np.nan)
    usual = float(np.nanmedian(per_cell)) if np.isfinite(per_cell).any() else 3.6
    result: FloatArray = np.where(np.isfinite(per_cell), per_cell, usual) * n_cells
    return result


@dataclass(slots=True)
class TestResults:
    """What the tests of some strings gave."""

    __test__ = False  # not a test, whatever its name says to pytest

    done: dict[int, StringTest] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    """Why, for strings whose next pattern was not let through."""


async def run_tests(rack: Rack, tests: dict[int, Test], progress: Progress = lambda _: None) -> TestResults:
    """Run the tests of several strings side by side, one pattern at a time."""
    site, results = rack.site, TestResults()
    patterns = {s: next(test) for s, test in tests.items()}
    while patterns:
        # a string that was given up stays as it is: its modules are not fed any more and leave by themselves
        given_up = np.isin(site.topology.string_of, list(results.refused))
        outcome = await rack.insert(_mask(site, patterns) | (rack.in_force.inserted & given_up))
        if isinstance(outcome, Refused):
            for s in [s for s in patterns if strings_named(site, outcome)[s]] or list(patterns):
                results.refused[s] = f"not let through: {refusal(outcome)}"
                rack.fed_modules[site.topology.slice_of(s)] = False
                del patterns[s]
            continue
        image = await rack.settle()
        shown = (image.modules.status & int(Rm1Status.INSERTED)) != 0
        for s in list(patterns):
            rows = site.topology.slice_of(s)
            seen = Look(
                float(image.strings.voltage_v.value[s]),
                frozenset(int(k) for k in np.flatnonzero(shown[rows])),
            )
            progress(site.strings[s].name)
            if not image.strings.answered[s]:
                results.refused[s] = "its converter does not answer any more"
                rack.fed_modules[rows] = False
                del patterns[s]
                continue
            try:
                patterns[s] = tests[s].send(seen)
            except StopIteration as ended:
                results.done[s] = ended.value
                del patterns[s]
    return results


def _mask(site: Site, patterns: Mapping[int, frozenset[int]]) -> BoolArray:
    """(M,) who is inserted, from places within strings."""
    wanted = np.zeros(site.topology.n_modules, dtype=np.bool_)
    for s, pattern in patterns.items():
        wanted[[int(site.topology.start[s]) + k for k in pattern]] = True
    return wanted


async def switches(
    rack: Rack, modules: BoolArray, strings: BoolArray, sound: BoolArray, progress: Progress
) -> StepOutcome:
    """Step `switch`: every module of `modules` over two `sound` ones."""
    site = rack.site
    ready_m, ready_s = await rack.arm(modules, strings)
    ready = ready_m & ready_s[site.topology.string_of]
    tests, untried = string_tests(rack, ready, sound)
    results = await run_tests(rack, tests, progress)
    untried |= {site.strings[s].name: why for s, why in results.refused.items()}
    findings = [f for s, result in results.done.items() for f in judge_switches(site, s, result)]
    for i in map(int, np.flatnonzero(modules & ~ready)):
        untried[site.positions[i].module.serial] = "its node, or its string's converter, is not ready"
    for i in map(int, np.flatnonzero(rack.unconfirmed)):
        serial = site.positions[i].module.serial
        untried[serial] = "what was written to its node did not read back"
        findings = [f for f in findings if f.subject != serial]
    count = sum(len(r.tried) for r in results.done.values())
    return concluded("switch", count, tuple(findings), untried)


def judge_switches(site: Site, string: int, result: StringTest) -> list[Finding]:
    """Findings of one string; one finding of its own where no module at all moves its voltage."""
    start, spec = int(site.topology.start[string]), site.strings[string]
    nothing = {Switch.DEAD, Switch.STUCK_BYPASSED}
    if len(result.tried) > 1 and all(t.switch in nothing for t in result.tried):
        found = f"it moves with none of {len(result.tried)} modules"
        remedy = (
            "the string, not its nodes: leads crossed or off at the converter, a fuse or a joint open, "
            "a module missing in the chain; measure along it"
        )
        expected = "STRING_VOLTAGE follows the modules inserted"
        return [Finding(spec.name, f"string {spec.name}", expected, found, remedy)]
    return [f for t in result.tried for f in _switch_findings(site, start + t.module, t)]


def _switch_findings(site: Site, i: int, t: Tried) -> list[Finding]:
    p = site.positions[i]
    expected = f"STRING_VOLTAGE {t.expected_v:+.1f} V inserted, {-t.expected_v:+.1f} V bypassed"
    if t.switch is not Switch.GOOD:
        told = "" if not t.shown else ", though its STATUS says it switched"
        found = f"{t.switch}: {t.rise_v:+.1f} V, {-t.fall_v:+.1f} V{told}"
        return [Finding(p.module.serial, p.label, expected, found, REMEDY[t.switch])]
    if not t.shown:
        remedy = "the switch works, what senses it does not: replace the node"
        return [Finding(p.module.serial, p.label, "STATUS bit 0 follows", "it does not", remedy)]
    return []


# ---- trim --------------------------------------------------------------------------------------


async def trims(rack: Rack, modules: BoolArray, strings: BoolArray) -> StepOutcome:
    """Step `trim`: every second module gives, then takes."""
    site = rack.site
    rating = np.array([m.trim_rating_a for m in site.modules])
    if not (rating > 0.0).any():
        return StepOutcome("trim", Verdict.PASS, text="no module has a trim converter")
    fitted = modules & (rating > 0.0)
    ready_m, ready_s = await rack.arm(fitted, strings)
    ready = ready_m & ready_s[site.topology.string_of]
    findings: dict[str, Finding] = {}
    told = ready & ((rack.image.modules.status & int(Rm1Status.TRIM_FAULT)) != 0)
    for i in map(int, np.flatnonzero(told)):
        p = site.positions[i]
        findings[p.module.serial] = Finding(
            p.module.serial, p.label, "no fault in STATUS", "trim fault", "replace the trim converter"
        )
    ready &= ~told
    tried: BoolArray = np.zeros_like(ready)
    refused: dict[str, str] = {}
    for evens_give in (True, False):
        flow = await _flow(rack, ready, refused, evens_give=evens_give)
        if flow is None:
            continue
        tried |= flow.setpoint_a != 0.0
        for f in judge_trim(site, flow.setpoint_a, flow.trim_a, flow.current_a, flow.rest_a):
            findings.setdefault(f.subject, f)
    untried = {
        site.positions[i].module.serial: "its node is not ready, or it has no partner in its string"
        for i in map(int, np.flatnonzero(fitted & ~tried & ~told))
    }
    for serial, why in refused.items():
        i = site.topology.serials.index(serial)
        if not tried[i]:
            untried[serial] = why
        elif serial not in findings:
            label = site.positions[i].label
            findings[serial] = Finding(
                serial, label, "both ways", f"one way only; {why}", "none", fault=False
            )
    return concluded("trim", int((tried | told).sum()), tuple(findings.values()), untried)


@dataclass(frozen=True, slots=True)
class _Flow:
    """One round of trim; (M,) each."""

    setpoint_a: FloatArray
    trim_a: FloatArray
    current_a: FloatArray
    rest_a: FloatArray


async def _flow(rack: Rack, ready: BoolArray, refused: dict[str, str], *, evens_give: bool) -> _Flow | None:
    """Let trim flow once and stop it; modules (or whole strings) that are refused are noted and left out."""
    site = rack.site
    able = ready.copy()
    while True:
        setpoint = trim_pattern(site, own_voltage(rack), able, evens_give=evens_give)
        if not setpoint.any():
            return None
        await rack.pass_time(TRIM_FLOWS_S)  # MODULE_CURRENT may still hold the round before
        rest = await rack.average()
        outcome = await rack.put(replace(rack.in_force, trim_current_a=setpoint), Trial.TRIM)
        if not isinstance(outcome, Refused):
            break
        subjects = {v.subject for v in outcome.violations}
        named = np.array([serial in subjects for serial in site.topology.serials]) & able
        if not named.any():
            named = strings_named(site, outcome)[site.topology.string_of] & able
        for i in map(int, np.flatnonzero(named)):
            serial = site.topology.serials[i]
            refused[serial] = f"not let through: {refusal(outcome, serial)}"
        able &= ~named
    await rack.pass_time(TRIM_FLOWS_S)
    image = await rack.average()
    await rack.put(replace(rack.in_force, trim_current_a=np.zeros_like(setpoint)), Trial.CONNECT, less=True)
    m = image.modules
    return _Flow(setpoint, m.trim_current_a.value, m.current_a.value, rest.modules.current_a.value)
