"""One tick of protection: faults stepped, limits in both directions, reasons, capability. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from reconf.arrays import BoolArray, FloatArray, no_nan
from reconf.estimation.state import Cooling, Estimate, Finding
from reconf.protection import conditions
from reconf.protection.assembly import assemble_envelope, explain, string_limits
from reconf.protection.bounds import Constants, build_constants
from reconf.protection.conditions import Trend
from reconf.protection.cooling import CoolingWatch, Surroundings, watch_cooling
from reconf.protection.copper import KneeState, follow_knee, steeper_v_per_ah
from reconf.protection.currents import Asked, Belief, CurrentStacks, believe, current_stacks
from reconf.protection.energy import available_energy_kwh
from reconf.protection.envelope import Envelope
from reconf.protection.faults import (
    MODULE_REFUSES,
    PLANS_REFUSED,
    STOP_CONVERTER,
    STRING_REFUSES,
    Conditions,
    FaultEvent,
    Machine,
    Scope,
    fault_rows,
    row_index,
    rule_numbers,
    step_machine,
)
from reconf.protection.insertion import InsertionRules, insertion_rules
from reconf.protection.observe import Observed, observe
from reconf.protection.refusing import plan_signal, remembered, spoken, words_of, write_signal
from reconf.protection.runaway import RiseSigns
from reconf.protection.signals import assemble, bit
from reconf.protection.state import (
    Cleared,
    ClearRefused,
    OperatorLimits,
    ProtectionState,
    SavedFault,
    clear_fault,
    initial_protection,
)
from reconf.protection.suspicion import suspected
from reconf.protection.thermal import (
    ThermalState,
    Warmth,
    auxiliary_w,
    conductance_w_per_k,
    counted_on,
    horizons_s,
    look_ahead,
    smoothed,
    with_current,
)
from reconf.readings import SiteImage
from reconf.replacing import replace
from reconf.site import Site

__all__ = [
    "ClearRefused",
    "Cleared",
    "OperatorLimits",
    "ProtectionState",
    "SavedFault",
    "available_energy_kwh",
    "clear_fault",
    "explain",
    "initial_protection",
    "protect",
]

NO_OPERATOR: Final = OperatorLimits()


@dataclass(frozen=True, slots=True)
class _Tick:
    """Everything one tick's rules look at."""

    site: Site
    constants: Constants
    image: SiteImage
    seen: Observed
    belief: Belief
    operator: OperatorLimits
    dt_s: float
    cooling: Cooling | None = None
    """As estimated."""
    uncooled: bool = False
    """The cooling runs and does not cool."""

    @property
    def string_current_a(self) -> FloatArray:
        """(M,) magnitude of each module's string current."""
        current: FloatArray = np.abs(no_nan(self.seen.string_current_a))
        return current[self.constants.topology.string_of]

    @property
    def stale_s(self) -> float:
        """Age from which a node counts as silent."""
        return rule_numbers().stale_ticks * max(self.site.timing.tick_s, self.dt_s)


def protect(
    site: Site,
    state: ProtectionState,
    image: SiteImage,
    estimate: Estimate,
    dt_s: float,
    operator: OperatorLimits = NO_OPERATOR,
) -> tuple[ProtectionState, Envelope]:
    """Limits in force after this tick's readings.

    Args:
        site: what is controlled.
        state: of the last tick.
        image: readings of this tick.
        estimate: of this tick.
        dt_s: control time since the last tick.
        operator: limits and flags from outside.

    Returns:
        The next state (`events` holds this tick's transitions), and the envelope.
    """
    constants = site.derived(build_constants)
    rules = rule_numbers()
    seen = observe(constants, image, rules.reversed_v)
    belief = believe(constants, estimate, seen)
    tick = _Tick(site, constants, image, seen, belief, operator, dt_s, estimate.cooling)
    trend, signs = conditions.follow(state.trend, state.machines, seen, image, dt_s, rules)
    known = replace(state, trend=trend)
    trusted = estimate.trusted & tick.belief.known
    module = _modules(tick, state, trend, signs, trusted, estimate.findings)
    insertion = insertion_rules(constants, module.machine, trend, operator, tick.belief)
    reach_v = _reach_v(tick, insertion)
    string = _strings(tick, state, trend, insertion, reach_v)
    cooling = _watch_cooling(tick, state)
    tick = replace(tick, uncooled=cooling.failed)
    whole = _site(tick, state, cooling)
    machines: dict[Scope, Machine] = {
        "module": module.machine,
        "string": string.machine,
        "site": whole.machine,
    }
    events = module.events + string.events + whole.events
    knee, thermal, stacks = _limits(tick, known)
    after = replace(
        known,
        time_s=image.time_s,
        machines=machines,
        events=events,
        knee=knee,
        thermal=thermal,
        cooling=cooling,
        stacks=stacks,
        findings=estimate.findings,
    )
    words = words_of(image.refusals, operator.refused_plans, state.subjects)
    if events or words or estimate.findings != state.findings:
        statuses = after.present()
        present = {(s.fault, s.subject) for s in statuses}
        kept = remembered(state.words, words, present)
        after = replace(after, words=kept, events=spoken(events, kept))
        after = replace(after, statuses=after.present() if kept else statuses)
    strings = string_limits(constants, machines, image, seen, reach_v)
    return after, assemble_envelope(
        constants,
        after,
        insertion,
        stacks,
        strings,
        tick.belief,
        operator,
        auxiliary_w(site.thermal, thermal),
    )


@dataclass(frozen=True, slots=True)
class _Stepped:
    machine: Machine
    events: tuple[FaultEvent, ...]


def _modules(
    tick: _Tick,
    state: ProtectionState,
    trend: Trend,
    signs: RiseSigns,
    trusted: BoolArray,
    findings: tuple[Finding, ...],
) -> _Stepped:
    """Step the modules' faults."""
    constants = tick.constants
    marks = suspected(findings, constants.topology.serials)
    signals = conditions.module_signals(
        constants, tick.seen, tick.image, state.trend, trend, signs, trusted, tick.stale_s, rule_numbers(),
        tick.operator.switches_apart,
    )  # fmt: skip
    signals |= {fault: bit(mark) for fault, mark in marks.items()}
    belief = tick.belief
    signals[MODULE_REFUSES] = write_signal(
        tick.image.refusals, "module", constants.n_modules, rule_numbers().refused_writes
    )
    signals["soc_implausible"] = conditions.soc_signal(constants, belief.soc_low_frac, belief.soc_high_frac)
    values = conditions.module_values(tick.seen, tick.belief.capacity_ah)
    now = assemble("module", constants.limits, values, signals, constants.n_modules)
    return _advance("module", tick, state, now)


def _reach_v(tick: _Tick, insertion: InsertionRules) -> FloatArray:
    """(S,) open-circuit voltage of every string with all modules in that may or must be."""
    may = ~insertion.forbidden | insertion.forced
    reach_v: FloatArray = tick.constants.topology.sum_by_string(np.where(may, tick.belief.ocv_v, 0.0))
    return reach_v


def _strings(
    tick: _Tick, state: ProtectionState, trend: Trend, insertion: InsertionRules, reach_v: FloatArray
) -> _Stepped:
    """Step the strings' faults."""
    constants, topology = tick.constants, tick.constants.topology
    cannot_leave = topology.sum_by_string((insertion.must_out & insertion.forced).astype(np.float64)) > 0.0
    signals = conditions.string_signals(
        constants, tick.seen, tick.image, state.trend, trend, reach_v, cannot_leave, tick.stale_s,
        rule_numbers(), tick.operator.opened_unasked, tick.operator.join_failed,
    )  # fmt: skip
    signals[STRING_REFUSES] = write_signal(
        tick.image.refusals, "string", constants.n_strings, rule_numbers().refused_writes
    )
    signals["cooling_lost"] = conditions.cooling_lost_signal(constants, tick.cooling)
    values = conditions.string_values(constants, tick.seen, tick.image)
    now = assemble("string", constants.site_limits, values, signals, constants.n_strings)
    return _advance("string", tick, state, now)


def _stopped_by_unseen(tick: _Tick, state: ProtectionState) -> bool:
    """A stop from the disk was pressed at a converter of which nothing has been read in this process."""
    row, machine = row_index("site")["emergency_stop"], state.machines["site"]
    if not machine.active[row, 0] or machine.value[row, 0] != STOP_CONVERTER:
        return False
    place = int(machine.bound[row, 0]) - 1 if machine.bound[row, 0] > 0.0 else 0
    ages = tick.image.strings.age_s
    return bool(np.isinf(ages[min(place, ages.size - 1)]))


def _site(tick: _Tick, state: ProtectionState, cooling: CoolingWatch) -> _Stepped:
    """Step the site's faults."""
    site = tick.site
    signals = conditions.site_signals(
        tick.image,
        tick.seen,
        rule_numbers().bus_margin_frac,
        (site.bus.min_v, site.bus.max_v),
        stop=tick.operator.emergency_stop,
        monitor_fitted=site.inputs.insulation_monitor,
        output_failed=tick.operator.output_failed,
        isolation_lost=tick.operator.isolation_lost,
        stopped_by_unseen=_stopped_by_unseen(tick, state),
    )
    signals["cooling_ineffective"] = conditions.cooling_signal(cooling)
    signals[PLANS_REFUSED] = plan_signal(tick.operator.refused_plans, rule_numbers().refused_plans)
    values = conditions.site_values(tick.image, monitor_fitted=site.inputs.insulation_monitor)
    now = assemble("site", tick.constants.site_limits, values, signals, 1)
    return _advance("site", tick, state, now)


def _advance(scope: Scope, tick: _Tick, state: ProtectionState, now: Conditions) -> _Stepped:
    """Step one scope's machine and note its transitions."""
    machine, onset, end = step_machine(
        state.machines[scope], tick.constants.timing[scope], now, tick.dt_s, tick.image.time_s
    )

    def told(mask: BoolArray, change: Literal["raised", "released"]) -> Iterator[FaultEvent]:
        for f, n in np.argwhere(mask) if mask.any() else ():
            row = fault_rows(scope)[f]
            yield FaultEvent(
                tick.image.time_s,
                row.fault,
                state.subjects[scope][n],
                change,
                float(now.value[f, n]),
                float(now.bound[f, n]),
                row.unit,
            )

    return _Stepped(machine, (*told(onset, "raised"), *told(end, "released")))


def _limits(tick: _Tick, state: ProtectionState) -> tuple[KneeState, ThermalState, CurrentStacks]:
    """Follow the knee and the heat, and ask every rule for its current limits."""
    constants, belief, site = tick.constants, tick.belief, tick.site
    n_cells = constants.topology.n_cells
    drop_v = (belief.r0_ohm * belief.current_a + belief.polarisation_v) / n_cells
    # which group is the weakest is not known, only that its resistance differs by so much at most
    doubt_v = (belief.worst_group_frac - 1.0) * drop_v
    knee = follow_knee(
        state.knee,
        tick.seen.cell_min_v + drop_v,
        doubt_v,
        belief.current_a,
        belief.capacity_ah,
        tick.dt_s,
    )
    counting, counted = counted_on(state.thermal, tick.dt_s, failed=_cooling_fails(tick))
    counting = with_current(counting, tick.string_current_a, tick.dt_s)
    warmth = _warmth(tick, counting.heating_current_a)
    measured = bool(np.isfinite(tick.image.inputs.ambient_degc))
    smooth, warmth = smoothed(counting, warmth, belief.temperature_degc, tick.dt_s, measured=measured)
    spec = site.thermal if counted else replace(site.thermal, cooling_resistance_factor_frac=1.0)
    thermal, ahead = look_ahead(constants.bank, constants.topology, spec, smooth, warmth, tick.dt_s)
    operator = tick.operator
    asked = Asked(
        string_current_a=thermal.heating_current_a,
        heat_limits_w=ahead.heat_limits_w(constants.limits["temperature_degc", "max"].operating),
        slope_v_per_ah=steeper_v_per_ah(belief.slope_v_per_ah / n_cells, knee) * n_cells,
        hold_s=site.timing.slot_s + site.timing.tick_s,
        interval_s=site.timing.interval_s,
        remote_a=(operator.max_discharge_c * belief.capacity_ah, operator.max_charge_c * belief.capacity_ah),
        soc_window_frac=(operator.soc_min_frac, operator.soc_max_frac),
    )
    return knee, thermal, current_stacks(constants, belief, asked)


def _cooling_fails(tick: _Tick) -> bool:
    """A cooling system that failed, cannot be switched, does not cool or says nothing is not counted on."""
    inputs = tick.image.inputs
    silent = "cooling_failed" in inputs.unknown
    return inputs.cooling_failed or silent or tick.operator.output_failed or tick.uncooled


def _watch_cooling(tick: _Tick, state: ProtectionState) -> CoolingWatch:
    """Compare the modules with what they would be with and without the cooling that runs."""
    watch, spec = state.cooling or CoolingWatch.start(tick.constants.n_modules), tick.site.thermal
    if spec.cooling == "off" or tick.dt_s <= 0.0:
        return watch
    bank, belief, seen = tick.constants.bank, tick.belief, tick.seen
    now = Surroundings(
        measured_degc=0.5 * (seen.temperature_min_degc + seen.temperature_max_degc),
        core_degc=belief.temperature_degc,
        heat_w=belief.resistance_ohm * belief.current_a**2,
        ambient_degc=tick.image.inputs.ambient_degc,
        cooled_w_per_k=conductance_w_per_k(bank, spec, 1.0),
        uncooled_w_per_k=conductance_w_per_k(bank, spec, 0.0),
    )
    return watch_cooling(bank, watch, now, state.thermal.level_frac, tick.dt_s)


def _warmth(tick: _Tick, current_a: FloatArray) -> Warmth:
    """Temperatures and heat of this tick; what is not measured is taken as warm as the core may be."""
    belief, inputs = tick.belief, tick.image.inputs
    ambient = tick.site.thermal.ambient_degc if np.isnan(inputs.ambient_degc) else inputs.ambient_degc
    core = belief.temperature_high_degc
    surface = tick.seen.temperature_max_degc
    return Warmth(
        core_degc=core,
        surface_degc=np.where(np.isnan(surface), core, np.minimum(surface, core)),
        ambient_degc=np.full(core.shape, ambient),
        limit_degc=tick.constants.limits["temperature_degc", "max"].operating,
        heat_w=belief.resistance_ohm * belief.current_a**2,
        horizon_s=horizons_s(belief.remaining_ah, belief.chargeable_ah, belief.remaining_std_ah, current_a),
        share_frac=None
        if tick.cooling is None
        else np.where(tick.cooling.lost, tick.cooling.share_frac, np.inf),
    )
