"""Guided commissioning: the steps in order, what each may use, and what is remembered of them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from edge.wires import checks, joining, trials, watchdogs
from edge.wires.checks import Readings
from edge.wires.looking import RackOptions
from edge.wires.rack import Rack
from reconf.arrays import BoolArray
from reconf.commissioning.outcome import StepOutcome, Verdict
from reconf.commissioning.steps import STEP_OF, STEPS, Step
from reconf.site import Site

SWITCH_LOOK_S = 0.75
"""Wall time of one look at settled switches; three looks and the way back for each module."""
CLOSED_S = 14.0
"""Wall time of one string's session behind a closed contactor."""


@dataclass(frozen=True, slots=True)
class Options:
    """How commissioning goes about it."""

    rack: RackOptions = field(default_factory=RackOptions)
    line_exchanges: int = checks.LINE_EXCHANGES
    watch_s: float = checks.WATCH_S
    """Time everybody is looked at, reading only, before anything is judged or written."""
    skip: frozenset[str] = frozenset()


@dataclass(slots=True)
class Talk:
    """How it speaks with the person; every part may be silent."""

    ask: Callable[[Step, float], Awaitable[bool]]
    """Whether a step that writes may go ahead; told how long it takes [s]."""
    began: Callable[[Step], None] = lambda _: None
    ended: Callable[[Step, StepOutcome], None] = lambda _, __: None
    say: Callable[[str], None] = lambda _: None
    progress: Callable[[str], None] = lambda _: None


@dataclass(slots=True)
class Commissioning:
    """One run over a site; `outcomes` of an interrupted one may be handed in."""

    site: Site
    options: Options
    talk: Talk
    began_utc: str = ""
    outcomes: dict[str, StepOutcome] = field(default_factory=dict)
    readings: Readings = field(default_factory=Readings)
    declined: bool = False
    rack: Rack | None = None
    """While something is being written."""
    known: Callable[[], None] = lambda: None
    """Called once it is known who answers: the time to take over what an earlier run found."""

    async def run(self) -> dict[str, StepOutcome]:
        """All steps in order; those that passed before are kept, but for who answers, which may change.

        Raises:
            ConfigError: the site is in use, or a gateway is not reachable.
        """
        self.readings.answerers = await checks.find_nodes(self.site, self.talk.say)
        self.readings.images = await checks.watch(self.site, self.options.watch_s)
        self.known()
        for step in STEPS:
            if step.step in self.options.skip:
                self._note(step, StepOutcome(step.step, Verdict.SKIPPED))
            elif step.step == "answers" or not self._passed(step.step):
                await self._do(step)
            else:
                self.talk.ended(step, self.outcomes[step.step])
        return self.outcomes

    def _passed(self, step: str) -> bool:
        known = self.outcomes.get(step)
        return known is not None and known.verdict is Verdict.PASS

    def _note(self, step: Step, outcome: StepOutcome) -> None:
        self.outcomes[step.step] = outcome
        self.talk.ended(step, outcome)

    async def _do(self, step: Step) -> None:
        if step.on_strings and step.step != joining.STEPS[0] and step.step in self._joined_now:
            self._note(step, self._joined_now.pop(step.step))
            return
        self.talk.began(step)
        if step.writes and not await self.talk.ask(step, self.seconds(step)):
            self.declined = True
            self._note(step, StepOutcome(step.step, Verdict.NOT_TRIED, text="declined"))
            return
        began = time.monotonic()
        outcome = await self._reading(step) if not step.writes else await self._writing(step)
        self._note(step, replace(outcome, seconds=round(time.monotonic() - began, 1)))

    _joined_now: dict[str, StepOutcome] = field(default_factory=dict)

    async def _reading(self, step: Step) -> StepOutcome:
        site, readings = self.site, self.readings
        match step.step:
            case "answers":
                return checks.answers_outcome(site, readings)
            case "identity":
                return checks.identity_outcome(site, readings)
            case "line":
                tick = self.talk.progress
                return await checks.line_outcome(
                    site, readings, self.options.line_exchanges, lambda: tick("line")
                )
            case "voltage":
                return checks.voltage_outcome(site, readings)
            case "temperature":
                return checks.temperature_outcome(site, readings)
            case _:
                raise ValueError(f"{step.step} is no step that only reads")

    async def _writing(self, step: Step) -> StepOutcome:
        modules, strings = self._fit(step)
        if not modules.any():
            return StepOutcome(
                step.step, Verdict.NOT_TRIED, untried=self._left_out(step), text="nothing is fit to be tried"
            )
        async with Rack(self.site, self.options.rack, say=self.talk.say) as rack:
            self.rack = rack
            try:
                outcome = await self._trial(step, rack, modules, strings)
            finally:
                self.rack = None
        missing = self._left_out(step)
        if not missing:
            return outcome
        verdict = Verdict.INCOMPLETE if outcome.verdict is Verdict.PASS else outcome.verdict
        return replace(outcome, untried={**missing, **outcome.untried}, verdict=verdict)

    async def _trial(self, step: Step, rack: Rack, modules: BoolArray, strings: BoolArray) -> StepOutcome:
        progress = self.talk.progress
        match step.step:
            case "latches":
                return await trials.latches(rack, modules, strings)
            case "switch":
                sound = modules & ~self._faulty(("voltage", "identity"))[0]
                return await trials.switches(rack, modules, strings, sound, progress)
            case "watchdog":
                return await watchdogs.watchdogs(rack, modules, strings, progress)
            case "trim":
                return await trials.trims(rack, modules, strings)
            case _:
                return await self._joined(step, rack, modules)

    async def _joined(self, step: Step, rack: Rack, modules: BoolArray) -> StepOutcome:
        """The steps behind a closed contactor, all at once; the later ones are noted in their turn."""
        names = [s.step for s in STEPS if s.on_strings]
        later = names[names.index(step.step) :]
        wanted = frozenset(n for n in later if n not in self.options.skip and not self._passed(n))
        out = self._strings_out(step)
        rack.faulty_strings = np.array([s.name in out for s in self.site.strings])
        found = await joining.joined(rack, modules, out, wanted | {step.step}, self.talk.progress)
        self._joined_now.update({n: o for n, o in found.items() if n != step.step})
        return found[step.step]

    # ---- who may take part ---------------------------------------------------------------------

    def _faulty(self, steps: tuple[str, ...]) -> tuple[BoolArray, BoolArray]:
        """(M,) and (S,) with a fault in one of `steps`; a faulty line takes everybody on it."""
        bad = {name for step in steps if step in self.outcomes for name in self.outcomes[step].faulty}
        bad |= {name for step in steps if step in self.outcomes for name in self.outcomes[step].untried}
        modules = np.array([p.module.serial in bad or p.gateway in bad for p in self.site.positions])
        strings = np.array([s.name in bad or s.converter.gateway in bad for s in self.site.strings])
        return modules, strings

    def _fit(self, step: Step) -> tuple[BoolArray, BoolArray]:
        """(M,) and (S,) that may take part in `step`."""
        bad_m, bad_s = self._faulty(step.needs)
        image = self.readings.last
        strings = image.strings.answered & ~bad_s
        modules = image.modules.answered & ~bad_m & strings[self.site.topology.string_of]
        return modules, strings

    def _left_out(self, step: Step) -> dict[str, str]:
        """Why, by serial or string."""
        modules, _ = self._fit(step)
        if step.on_strings:
            return self._strings_out(step)
        return {
            p.module.serial: self._why(step, p.module.serial, p.gateway, i)
            for i, p in enumerate(self.site.positions)
            if not modules[i]
        }

    def _why(self, step: Step, serial: str, gateway: str, i: int) -> str:
        string = self.site.strings[int(self.site.topology.string_of[i])].name
        for name in step.needs:
            known = self.outcomes.get(name)
            if known is not None and {serial, gateway, string} & (known.faulty | set(known.untried)):
                return f"'{STEP_OF[name].title}' comes first"
        return "it does not answer, or its converter does not"

    def _strings_out(self, step: Step) -> dict[str, str]:
        """Strings that must not be closed, and why: one unproven module keeps its whole string open."""
        modules, strings = self._fit(step)
        out: dict[str, str] = {}
        for s, spec in enumerate(self.site.strings):
            rows = self.site.topology.slice_of(s)
            missing = [self.site.positions[rows.start + int(k)].label for k in np.flatnonzero(~modules[rows])]
            if missing and len(missing) < rows.stop - rows.start:
                more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
                out[spec.name] = f"not closed before {', '.join(missing[:3])}{more} is mended and proven"
            elif missing or not strings[s]:
                out[spec.name] = "its converter, or the line to it, comes first"
        for name in ("switch", "watchdog"):
            if name in self.options.skip or name not in self.outcomes:
                out |= {s.name: f"not closed before step {name} was done" for s in self.site.strings}
        return out

    # ---- time ----------------------------------------------------------------------------------

    def seconds(self, step: Step) -> float:
        """About how long a step takes [s]."""
        modules, strings = self._fit(step)
        site, scale = self.site, self.options.rack.time_scale
        counts = site.topology.sum_by_string(modules.astype(np.float64))
        match step.step:
            case "switch":
                return (2.0 * float(counts.max(initial=0.0)) + 8.0) * SWITCH_LOOK_S / scale + 2.0
            case "watchdog":
                volts = np.nan_to_num(self.readings.last.modules.voltage_v.value)
                rounds = watchdogs.watchdog_rounds(site, modules, volts)
                return rounds * (self.options.rack.module_watchdog_s + 3.0) + 2.0
            case "trim":
                return 2.0 * (2.0 * trials.TRIM_FLOWS_S + 3.0) / scale + 2.0
            case "contactor" | "power" | "converter_watchdog":
                return float(strings.sum()) * (CLOSED_S / scale + self.options.rack.string_watchdog_s) + 2.0
            case _:
                return 3.0


def overall(outcomes: Mapping[str, StepOutcome]) -> Verdict:
    """Verdict of the whole site: it passes when every step did."""
    verdicts = [outcomes[s.step].verdict if s.step in outcomes else Verdict.NOT_TRIED for s in STEPS]
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if set(verdicts) == {Verdict.PASS} else Verdict.INCOMPLETE
