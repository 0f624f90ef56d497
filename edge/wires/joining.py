"""Steps of commissioning that close a contactor: precharge, small power, the converter's own watchdog.

One string at a time, and one session for the three of them, so that each string closes once. Every state goes
through `permit` and `verify`; however the session ends, the string is left in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edge.wires.looking import RackError
from edge.wires.rack import Rack
from edge.wires.trials import own_voltage, refusal
from edge.wires.watchdogs import SLOW_FRAC, SLOW_S
from reconf.actuation import ConverterMode, Refused, SlotCommand
from reconf.arrays import BoolArray
from reconf.commissioning.outcome import Finding, StepOutcome, concluded
from reconf.commissioning.power import judge_power, small_power
from reconf.commissioning.rules import Trial
from reconf.devices.describe import bits_text
from reconf.devices.profile import load_profile
from reconf.devices.rc1 import Rc1Status
from reconf.readings import SiteImage
from reconf.replacing import replace

STEPS = ("contactor", "power", "converter_watchdog")
CLOSE_LIMIT_S = 8.0
"""Control time: precharge takes about 1 s and is given up by the converter after 5 s."""
CLOSE_SLACK_S = 1.0
"""Wall time for reading it back."""
SUM_FRAC = 0.02
SUM_V = 2.0
"""STRING_VOLTAGE against the sum of its modules before closing."""
LINK_FRAC = 0.02
LINK_V = 2.0
INSIDE_FRAC = 0.02
"""Kept from either end of the window when the pattern is chosen."""
FOLLOWS_S = 2.5
"""Control time for a set point to be there and the module currents' mean of a second to show it."""
Progress = Callable[[str], None]


@dataclass(slots=True)
class _Session:
    """What the three steps have found so far."""

    findings: dict[str, list[Finding]] = field(default_factory=lambda: {s: [] for s in STEPS})
    untried: dict[str, dict[str, str]] = field(default_factory=lambda: {s: {} for s in STEPS})
    checked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STEPS, 0))
    figures: dict[str, dict[str, float]] = field(default_factory=lambda: {s: {} for s in STEPS})

    now: str = STEPS[0]
    """The step under way."""

    def broken_off(self, name: str, why: str) -> None:
        """String `name` was left in the middle of a step: that is a fault of its own."""
        remedy = "see its STATUS with `reconf dump`, mend it, then repeat"
        self.checked[self.now] += 1
        self.findings[self.now].append(Finding(name, f"converter {name}", "no fault", why, remedy))
        self.skip(name, "left in the step before", STEPS[STEPS.index(self.now) + 1 :])

    def skip(self, name: str, why: str, steps: tuple[str, ...] = STEPS) -> None:
        """String `name` cannot be tried."""
        for step in steps:
            self.untried[step].setdefault(name, why)

    def outcome(self, step: str) -> StepOutcome:
        """A step over all strings."""
        return concluded(
            step, self.checked[step], tuple(self.findings[step]), self.untried[step], self.figures[step]
        )


async def joined(
    rack: Rack,
    modules: BoolArray,
    out: dict[str, str],
    wanted: frozenset[str],
    progress: Progress = lambda _: None,
) -> dict[str, StepOutcome]:
    """The steps of `wanted`, string by string.

    Args:
        rack: the site.
        modules: (M,) modules that may be inserted.
        out: why, by name, for strings that must not be closed.
        wanted: steps to do.
        progress: told each string's name.
    """
    site, session = rack.site, _Session()
    for s, spec in enumerate(site.strings):
        progress(spec.name)
        if spec.name in out:
            session.skip(spec.name, out[spec.name])
            continue
        try:
            await _string(rack, s, modules, wanted, session)
        except RackError as error:
            session.broken_off(spec.name, str(error))
        await rack.leave()
    return {step: session.outcome(step) for step in STEPS if step in wanted}


async def _string(rack: Rack, s: int, modules: BoolArray, wanted: frozenset[str], session: _Session) -> None:
    """Close one string, and open it again by its converter's watchdog (or by command)."""
    name, session.now = rack.site.strings[s].name, STEPS[0]
    mine = np.zeros_like(modules)
    mine[rack.site.topology.slice_of(s)] = True
    only = np.zeros(rack.site.topology.n_strings, dtype=np.bool_)
    only[s] = True
    ready_m, ready_s = await rack.arm(modules & mine, only)
    if not ready_s[s] or not (ready_m == (modules & mine)).all():
        session.skip(name, "its nodes are not ready")
        return
    pattern = _pattern(rack, s, modules & mine)
    if pattern is None:
        session.skip(name, "its modules do not reach the converter's window together")
        return
    if not await _close(rack, s, pattern, session):
        return
    if "power" in wanted:
        session.now = "power"
        await _power(rack, s, pattern, session)
    if "converter_watchdog" in wanted:
        session.now = "converter_watchdog"
        await _converter_watchdog(rack, s, session)


def _pattern(rack: Rack, s: int, modules: BoolArray) -> BoolArray | None:
    """Who is inserted: all, or as many of the first as stay inside the window; None where that is too few."""
    converter, volts = rack.site.strings[s].converter, own_voltage(rack)
    low = converter.voltage_min_v * (1.0 + INSIDE_FRAC)
    high = converter.voltage_max_v * (1.0 - INSIDE_FRAC)
    chosen, total = np.zeros_like(modules), 0.0
    for i in np.flatnonzero(modules):
        if total + float(volts[i]) > high:
            break
        chosen[i], total = True, total + float(volts[i])
    return chosen if total >= low else None


async def _close(rack: Rack, s: int, pattern: BoolArray, session: _Session) -> bool:
    """Insert, compare, precharge, close; whether the contactor was read back closed."""
    name = rack.site.strings[s].name
    for stage in (_insert, _precharge, _compare_link):
        trouble = await stage(rack, s, pattern, session)
        if isinstance(trouble, Finding):
            session.checked["contactor"] += 1
            session.findings["contactor"].append(trouble)
            session.skip(name, "its contactor did not close", STEPS[1:])
        elif trouble:
            session.skip(name, trouble)
        if trouble:
            return False
    session.checked["contactor"] += 1
    return True


def _fault(rack: Rack, s: int, expected: str, found: str, remedy: str) -> Finding:
    name = rack.site.strings[s].name
    return Finding(name, f"converter {name}", expected, found, remedy)


async def _insert(rack: Rack, s: int, pattern: BoolArray, _: _Session) -> Finding | str:
    """Insert the pattern and hold the string's voltage against the sum of its modules."""
    outcome = await rack.insert(pattern, Trial.CONNECT)
    if isinstance(outcome, Refused):
        return f"not let through: {refusal(outcome)}"
    await rack.settle()
    image = await rack.average()
    expected_v = float(image.modules.voltage_v.value[pattern].sum())
    found_v = float(image.strings.voltage_v.value[s])
    if abs(found_v - expected_v) <= SUM_FRAC * expected_v + SUM_V:
        return ""
    remedy = "a joint, a fuse or a switch in the string: measure along it before it is ever closed"
    return _fault(
        rack, s, f"{expected_v:.1f} V, the sum of its modules", f"STRING_VOLTAGE {found_v:.1f} V", remedy
    )


async def _precharge(rack: Rack, s: int, pattern: BoolArray, session: _Session) -> Finding | str:
    """Set a low current limit, ask for the contactor, and wait until it is read back closed."""
    site, string_v = rack.site, float(rack.image.strings.voltage_v.value[s])
    limit, close = np.zeros(site.topology.n_strings), np.zeros(site.topology.n_strings, dtype=np.bool_)
    limit[s], close[s] = small_power(site, s, pattern, string_v).current_limit_a, True
    for command in (
        replace(rack.in_force, current_limit_a=limit),
        replace(rack.in_force, current_limit_a=limit, contactor=close),
    ):
        outcome = await rack.put(command, Trial.CONNECT)
        if isinstance(outcome, Refused):
            return f"not let through: {refusal(outcome)}"
        await rack.look()
    began = rack.wall()

    def closed(image: SiteImage) -> bool:
        return bool(image.strings.status[s] & int(Rc1Status.CONTACTOR_CLOSED))

    try:
        shut = await rack.until(closed, CLOSE_LIMIT_S / rack.options.time_scale + CLOSE_SLACK_S)
    except RackError:  # protection saw it first; what the converter says is told below
        shut = False
    if not shut:
        status = bits_text(load_profile("rc1"), int(rack.image.strings.status[s]))
        remedy = "precharge fuse or resistor, contactor coil or its feedback: isolate and look"
        found = f"not closed after {rack.wall() - began:.1f} s: {status}"
        return _fault(rack, s, "read back closed after precharge", found, remedy)
    figures = session.figures["contactor"]
    figures[f"{site.strings[s].name}_closed_after_s"] = round(rack.wall() - began, 2)
    return ""


async def _compare_link(rack: Rack, s: int, _: BoolArray, __: _Session) -> Finding | str:
    """Behind a closed contactor the link stands at the string's voltage."""
    strings = (await rack.settle()).strings
    if not strings.status[s] & int(Rc1Status.CONTACTOR_CLOSED):
        told = bits_text(load_profile("rc1"), int(strings.status[s]))
        remedy = "read the converter's own log before it is closed again"
        if strings.status[s] & int(Rc1Status.WATCHDOG_EXPIRED):
            remedy = "its heartbeat came late: look at the load of the line and of this machine"
        return _fault(rack, s, "stays closed", f"opened again by itself: {told}", remedy)
    link_v, string_v = float(strings.link_voltage_v.value[s]), float(strings.voltage_v.value[s])
    if abs(link_v - string_v) <= LINK_FRAC * string_v + LINK_V:
        return ""
    remedy = "the contactor's contacts do not conduct, or its feedback lies"
    found = f"{link_v:.1f} V behind a closed contactor"
    return _fault(rack, s, f"link at the string's {string_v:.1f} V", found, remedy)


async def _power(rack: Rack, s: int, pattern: BoolArray, session: _Session) -> None:
    """Discharge, then charge, with a small set point each; then 0 and MODE 0."""
    site, spec = rack.site, rack.site.strings[s]
    if site.bus.master != "pcs":
        session.skip(
            spec.name, f"the bus is held by string {site.bus.master}: tried by running the site", STEPS[1:2]
        )
        return
    string_v = float(rack.image.strings.voltage_v.value[s])
    small = small_power(site, s, pattern, string_v)
    rest = await rack.average()
    tried = 0
    for asked_w in (small.power_w, -small.power_w):
        outcome = await rack.put(_with_power(rack.in_force, s, asked_w), Trial.CONNECT)
        if isinstance(outcome, Refused):
            way = "discharging" if asked_w > 0.0 else "charging"
            session.findings["power"].append(
                Finding(
                    spec.name, f"converter {spec.name}", f"{asked_w:+.0f} W {way}", "not tried",
                    f"not let through: {refusal(outcome)}", fault=False,
                )
            )  # fmt: skip
            continue
        await rack.pass_time(FOLLOWS_S)
        image = await rack.average()
        tried += 1
        session.findings["power"] += judge_power(
            site,
            s,
            asked_w,
            float(image.strings.power_w.value[s]),
            float(image.strings.current_a.value[s] - rest.strings.current_a.value[s]),
            image.modules.current_a.value,
            rest.modules.current_a.value,
            pattern,
        )
        session.figures["power"][f"{spec.name}_{asked_w:+.0f}_w"] = float(image.strings.power_w.value[s])
        await rack.put(_with_power(rack.in_force, s, 0.0), Trial.CONNECT, less=True)
        await rack.look()
    await rack.put(_off(rack.in_force), Trial.CONNECT, less=True)
    await rack.settle()
    session.checked["power"] += 1 if tried else 0
    if not tried:
        session.skip(spec.name, "no set point was let through", STEPS[1:2])


def _with_power(command: SlotCommand, s: int, power_w: float) -> SlotCommand:
    power, mode = command.power_w.copy(), command.mode.copy()
    power[s], mode[s] = power_w, int(ConverterMode.POWER)
    return replace(command, power_w=power, mode=mode)


def _off(command: SlotCommand) -> SlotCommand:
    return replace(command, power_w=np.zeros_like(command.power_w), mode=np.zeros_like(command.mode))


async def _converter_watchdog(rack: Rack, s: int, session: _Session) -> None:
    """Stop feeding the converter, keep feeding its modules: it must open by itself."""
    spec, watchdog_s = rack.site.strings[s], rack.options.string_watchdog_s
    only = np.zeros(rack.site.topology.n_strings, dtype=np.bool_)
    only[s] = True
    nobody = np.zeros(rack.site.topology.n_modules, dtype=np.bool_)
    await rack.south.heartbeat(nobody, only, only_due=False)
    rack.fed_strings &= ~only
    began = rack.wall()
    limit_s = SLOW_FRAC * watchdog_s + SLOW_S
    opened = await rack.until(lambda _: bool(rack.contactor_open[s]), limit_s)
    took_s = rack.wall() - began
    session.checked["converter_watchdog"] += 1
    expected = f"contactor open {watchdog_s:.1f} s after the last heartbeat"
    if not opened:
        session.findings["converter_watchdog"].append(
            Finding(
                spec.name, f"converter {spec.name}", expected, f"still closed after {limit_s:.1f} s",
                "do not run this string: with a lost bus its modules would bypass behind a closed contactor",
            )
        )  # fmt: skip
        rack.fed_strings |= only
        return
    session.figures["converter_watchdog"][f"{spec.name}_opened_after_s"] = round(took_s, 2)
