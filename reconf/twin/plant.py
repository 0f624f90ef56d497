"""The physics of a whole site: cells, modules, switches, trim buses, strings, converters, DC bus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np

from reconf.actuation import ConverterMode
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.cells import CellBank
from reconf.errors import ParameterError
from reconf.readings import SiteImage
from reconf.site import Site
from reconf.twin.bus import BusMaster, free_bus_v
from reconf.twin.electrical import (
    CellState,
    Flow,
    GroupParameters,
    ModuleResponse,
    Response,
    StepConstants,
    advance,
    enthalpy_power_w,
    group_enthalpy_j,
    respond,
    stored_current_a,
    voltage_behind_r0_v,
)
from reconf.twin.electrical_string import ConverterArrays, StringSolution, balance_trim, solve_strings
from reconf.twin.plant_state import (
    EnergyLedger,
    PlantFaults,
    PlantInputs,
    PlantMeasures,
    SafetyLimits,
    ViolationCounter,
)
from reconf.twin.thermal import RackHeat
from reconf.twin.truth import Truth

HEATSINK_RISE_K = 35.0
"""Rise of a converter's heatsink at its full rating; a usual design point of fan-cooled converters."""
HEATSINK_TIME_S = 600.0
TRIM_PASSES = 3
"""Passes of trim balance against string current; each shrinks the imbalance about a hundredfold."""
BUS_VOLTAGE = int(ConverterMode.BUS_VOLTAGE)
"""As a number: this is looked at in every step."""


class Plant:
    """A site's physics, advanced by `step` under the inputs last `apply`d. No chance, no clock.

    Args:
        site: strings, modules, converters, limits.
        truth: what the modules really are (`draw_truth`).
        ambient_degc: air around the racks; may be changed at any time.
    """

    def __init__(self, site: Site, truth: Truth, ambient_degc: float | None = None) -> None:
        self.site = site
        self.truth = truth
        self.topology = site.topology
        self.bank = CellBank.of(site.modules)
        self.converters = ConverterArrays.of(site)
        self.limits = SafetyLimits.of(site)
        m, s, c = self.topology.n_modules, self.topology.n_strings, self.topology.n_cells_max
        self.ambient_degc: float = site.thermal.ambient_degc if ambient_degc is None else ambient_degc
        self.faults = PlantFaults.none(m, c, s)
        self.inputs = PlantInputs.safe(m, s)
        self.cells = CellState(truth.soc_frac.copy(), np.zeros((m, c)), np.zeros((m, c)), np.zeros((m, c)))
        self.core_degc = truth.temperature_degc.copy()
        self.surface_degc = truth.temperature_degc.copy()
        self.bus_voltage_v = site.bus.nominal_v
        self.time_s = 0.0
        self.charge_out_ah = np.zeros(m)
        """(M,) net discharged, true."""
        self.insert_count: IntArray = np.zeros(m, dtype=np.int64)
        """(M,) insert and bypass transitions the host caused."""
        self.heatsink_degc = np.full(s, self.ambient_degc)
        """(S,) of the converters."""
        self.energy = EnergyLedger(
            0.0, 0.0, 0.0, 0.0, 0.0, np.zeros(s), np.zeros(s), np.zeros(s), np.zeros(s)
        )
        self.violations = ViolationCounter()
        self._mask = self.bank.mask.astype(np.float64)
        self._trim_efficiency = np.array([x.trim_efficiency_frac for x in site.modules])
        full_w = self.converters.loss_w(
            self.converters.power_rating_w, self.converters.current_rating_a, np.ones(s, dtype=np.bool_)
        )
        self._heatsink_k_per_w = HEATSINK_RISE_K / np.maximum(full_w, 1.0)
        self._per_ah = self._mask / self.bank.rated_capacity_ah[:, None]
        self._soh_lost = 1.0 - truth.capacity_ah / self.bank.rated_capacity_ah[:, None]
        self._outside = np.zeros(s, dtype=np.bool_)
        self._power_w = np.zeros(s)
        self._string_a = np.zeros(s)
        self._master = BusMaster()
        self._constants: dict[float, StepConstants] = {}
        self._rack = RackHeat(self.bank, self.topology, site.thermal)
        self._enthalpy_start_j = self.enthalpy_j()
        self.true = self._measures_at_rest()

    # ---- driving -------------------------------------------------------------------------------

    def apply(self, inputs: PlantInputs) -> None:
        """Set every actuator; acts from the next step on."""
        if (inputs.duty_frac < 0.0).any() or (inputs.duty_frac > 1.0).any():
            raise ParameterError("a duty lies outside 0..1")
        self.insert_count = self.insert_count + (inputs.inserted != self.inputs.inserted)
        self.inputs = inputs

    def exchange_rows(self, a: int, b: int) -> None:
        """The state of two modules changes places, as the truth has done already; no energy is moved."""
        rows, turned = [a, b], [b, a]
        state = [getattr(self.cells, f.name) for f in fields(self.cells)]
        for values in (*state, self.core_degc, self.surface_degc, self.charge_out_ah, self._soh_lost):
            values[rows] = values[turned]
        self.true = self._measures_at_rest()

    def measure_at_rest(self) -> None:
        """What can be measured follows a state that was set by hand, without a step in between."""
        self.true = self._measures_at_rest()

    def step(self, dt_s: float) -> None:
        """Advance the physics by `dt_s` > 0 seconds with constant inputs."""
        if not dt_s > 0.0:
            raise ParameterError(f"a step of {dt_s} s")
        constants = self._step_constants(dt_s)
        response = respond(self.bank, self._parameters(), self.cells, self.core_degc, constants)
        duty = np.where(self.inputs.inserted, self.inputs.duty_frac, 0.0)
        modules = ModuleResponse.of(response)
        trim, solved = self._solve(modules, duty, dt_s)
        self._master.commit()
        string_a = self.faults.polarity * solved.current_a[self.topology.string_of]
        current = duty * string_a + trim
        leakage = response.ocv_v * self._mask / self.faults.leakage_ohm
        stored = stored_current_a(self.bank, current, leakage)
        chemical = enthalpy_power_w(response, stored, self.core_degc, dt_s, self._mask)
        heat = self._book(chemical, modules, Flow(duty, trim, string_a, current), solved, dt_s)
        before = self.cells
        self.cells = advance(self.bank, before, response, current, stored, constants)
        self._advance_heat(heat, dt_s)
        self.charge_out_ah += current * (dt_s / 3600.0)
        self.time_s += dt_s
        self._outside = solved.outside_window
        self._power_w = solved.bus_power_w
        self._string_a = solved.current_a
        self._finish(response, before, Flow(duty, trim, string_a, current), solved, dt_s)

    def step_alone(self, current_a: FloatArray, dt_s: float) -> FloatArray:
        """Advance every module by itself, loaded with `current_a` (M,); returns its work at the terminals.

        The work is in joule, (M,). No string, switch or converter takes part, and the ledger stays as it is
        but for the cells' heat.
        """
        constants = self._step_constants(dt_s)
        response = respond(self.bank, self._parameters(), self.cells, self.core_degc, constants)
        leakage = response.ocv_v * self._mask / self.faults.leakage_ohm
        stored = stored_current_a(self.bank, current_a, leakage)
        modules = ModuleResponse.of(response)
        terminal = current_a * (modules.emf_v - (modules.slow_ohm + modules.fast_ohm) * current_a)
        heat = enthalpy_power_w(response, stored, self.core_degc, dt_s, self._mask) - terminal
        self.energy.cell_heat_j += float(heat.sum()) * dt_s
        before = self.cells
        self.cells = advance(self.bank, before, response, current_a, stored, constants)
        self._advance_heat(heat, dt_s)
        self.charge_out_ah += current_a * (dt_s / 3600.0)
        self.time_s += dt_s
        nothing = np.zeros(self.topology.n_strings)
        none = np.zeros(self.topology.n_strings, dtype=np.bool_)
        idle = StringSolution(nothing, nothing, none, none, none)
        rest = np.zeros(current_a.shape)
        self._finish(response, before, Flow(rest, current_a, rest, current_a), idle, dt_s)
        work: FloatArray = terminal * dt_s
        return work

    def _parameters(self) -> GroupParameters:
        return GroupParameters(
            capacity_ah=self.truth.capacity_ah,
            soh_lost_frac=self._soh_lost,
            mask=self._mask,
            per_ah=self.truth.resistance_scale * self.faults.resistance_factor * self._per_ah,
        )

    def _step_constants(self, dt_s: float) -> StepConstants:
        found = self._constants.get(dt_s)
        if found is None:
            if len(self._constants) > 64:
                self._constants.clear()
            found = self._constants[dt_s] = StepConstants.of(self.bank, dt_s)
        return found

    # ---- one step ------------------------------------------------------------------------------

    def _solve(
        self, modules: ModuleResponse, duty: FloatArray, dt_s: float
    ) -> tuple[FloatArray, StringSolution]:
        """Trim currents and string currents that hold together."""
        emf, fast, slow = modules.emf_v, modules.fast_ohm, modules.slow_ohm
        setpoint = self.inputs.trim_setpoint_a
        string_a = self._string_a
        trimmed = bool(setpoint.any())
        for _ in range(TRIM_PASSES if trimmed else 1):
            through = duty * self.faults.polarity * string_a[self.topology.string_of]
            voltage = emf - (slow + fast) * (through + setpoint)
            trim = balance_trim(self.topology, setpoint, voltage, self._trim_efficiency)
            a, b = self._string_line(emf, fast, slow, duty, trim)
            solved = self._solve_bus(a, b, dt_s)
            string_a = solved.current_a
        return trim, solved

    def _string_line(
        self, emf: FloatArray, fast: FloatArray, slow: FloatArray, duty: FloatArray, trim: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """V = a - b I of every string, mean over the step."""
        a = self.topology.sum_by_string(duty * self.faults.polarity * (emf - (fast + slow) * trim))
        b = self.topology.sum_by_string(duty * (slow * duty + fast) + self.topology.r_on_ohm)
        return a, b

    def _solve_bus(self, a: FloatArray, b: FloatArray, dt_s: float) -> StringSolution:
        """Solve all strings; a string in mode BUS_VOLTAGE gives what the others leave."""
        inputs = self.inputs

        def solve(power_w: FloatArray, before_w: FloatArray) -> StringSolution:
            return solve_strings(
                self.converters,
                a,
                b,
                inputs.mode,
                power_w,
                inputs.current_limit_a,
                inputs.contactor_closed,
                self._outside,
                before_w,
                dt_s,
            )

        master = inputs.mode == BUS_VOLTAGE
        if not np.count_nonzero(master):
            self._master.release()
            return solve(inputs.power_setpoint_w, self._power_w)
        held = self._held(master, a, solve, dt_s)
        # what holds the bus is not slewed: it is as fast as BUS_TIME_S lets it be
        return solve(np.where(master, held, inputs.power_setpoint_w), np.where(master, held, self._power_w))

    def _held(
        self,
        master: BoolArray,
        emf_v: FloatArray,
        solve: Callable[[FloatArray, FloatArray], StringSolution],
        dt_s: float,
    ) -> float:
        """Mean power of the string that holds the bus over the step [W]."""
        inputs = self.inputs
        s = int(np.flatnonzero(master)[0])
        least, most = (
            solve(np.where(master, w, inputs.power_setpoint_w), np.where(master, w, self._power_w))
            for w in (-self.converters.power_rating_w, self.converters.power_rating_w)
        )
        drawn = 0.0 if np.isnan(inputs.pcs_power_w) else inputs.pcs_power_w
        others = float(most.bus_power_w[~master].sum())
        return self._master.mean_power_w(
            self.bus_voltage_v, float(emf_v[s]), float(inputs.bus_voltage_setpoint_v[s]), drawn - others,
            (float(least.bus_power_w[s]), float(most.bus_power_w[s])), dt_s,
        )  # fmt: skip

    def _book(
        self,
        chemical_w: FloatArray,
        modules: ModuleResponse,
        flow: Flow,
        solved: StringSolution,
        dt_s: float,
    ) -> FloatArray:
        """Enter the step into the ledger and return the heat of every module [W]."""
        string_a, trim, fast = flow.string_a, flow.trim_a, modules.fast_ohm
        behind = modules.emf_v - modules.slow_ohm * flow.cell_a
        to_string = flow.duty_frac * string_a * (behind - fast * (string_a + trim))
        to_trim = trim * (behind - fast * flow.cell_a)
        heat: FloatArray = chemical_w - to_string - to_trim
        switch = self.topology.r_on_ohm * string_a**2
        string_w = self.topology.sum_by_string(to_string - switch)
        books = self.energy
        books.cell_heat_j += float(heat.sum()) * dt_s
        books.switch_loss_j += float(switch.sum()) * dt_s
        books.trim_loss_j += float(to_trim.sum()) * dt_s
        converter = self.converters.loss_w(solved.bus_power_w, solved.current_a, solved.running)
        books.converter_loss_j += float(converter.sum()) * dt_s
        self._warm_heatsinks(converter, dt_s)
        books.bus_j += float(solved.bus_power_w.sum()) * dt_s
        books.string_out_j += np.maximum(string_w, 0.0) * dt_s
        books.string_in_j += np.maximum(-string_w, 0.0) * dt_s
        books.bus_out_j += np.maximum(solved.bus_power_w, 0.0) * dt_s
        books.bus_in_j += np.maximum(-solved.bus_power_w, 0.0) * dt_s
        return heat

    def _warm_heatsinks(self, loss_w: FloatArray, dt_s: float) -> None:
        """First order towards the rise that full-rating loss would give (HEATSINK_RISE_K)."""
        target = self.ambient_degc + loss_w * self._heatsink_k_per_w
        self.heatsink_degc = target + (self.heatsink_degc - target) * np.exp(-dt_s / HEATSINK_TIME_S)

    def _advance_heat(self, heat_w: FloatArray, dt_s: float) -> None:
        self.core_degc, self.surface_degc = self._rack.advance(
            self.core_degc,
            self.surface_degc,
            heat_w + self.faults.extra_heat_w,
            self.ambient_degc,
            self.truth.cooling_scale * self.faults.cooling_factor,
            self.inputs.cooling_frac,
            dt_s,
        )
        self.energy.auxiliary_j += self._rack.level_frac * self.site.thermal.cooling_power_w * dt_s

    def _finish(
        self,
        response: Response,
        before: CellState,
        flow: Flow,
        solved: StringSolution,
        dt_s: float,
    ) -> None:
        """Measures at the end of the step, bus voltage, violations."""
        topology, duty, trim, string_a = self.topology, flow.duty_frac, flow.trim_a, flow.string_a
        behind = voltage_behind_r0_v(response, before, self.cells)
        mean_a = flow.cell_a
        cell_v = np.where(self.bank.mask, behind - response.r0_ohm * mean_a[:, None], np.nan)
        behind_sum = (behind * self._mask).sum(axis=1)
        fast = response.r0_ohm.sum(axis=1)
        inserted_v = behind_sum - fast * (string_a + trim)
        polarity = self.faults.polarity
        string_v = topology.sum_by_string(polarity * (duty * inserted_v - topology.r_on_ohm * string_a))
        if np.isnan(self.inputs.pcs_power_w):
            self.bus_voltage_v = self.site.bus.nominal_v
        else:
            surplus_w = float(solved.bus_power_w.sum()) - self.inputs.pcs_power_w
            self.bus_voltage_v = free_bus_v(self.bus_voltage_v, surplus_w, self.site.bus, dt_s)
        self.true = PlantMeasures(
            module_voltage_v=behind_sum - fast * mean_a,
            module_current_a=mean_a,
            cell_voltage_v=cell_v,
            core_degc=self.core_degc,
            surface_degc=self.surface_degc,
            trim_current_a=trim,
            duty_frac=duty,
            string_voltage_v=string_v,
            string_current_a=solved.current_a,
            bus_power_w=solved.bus_power_w,
            bus_voltage_v=self.bus_voltage_v,
            limiting=solved.limiting,
            outside_window=solved.outside_window,
        )
        worst_a = np.where(duty > 0.0, string_a, 0.0) + trim
        warm = (self.core_degc, self.surface_degc)
        worst_v = behind - response.r0_ohm * worst_a[:, None]
        self.violations.watch(self.limits, self.bank.mask, worst_v, warm, worst_a, dt_s)

    def observe(self, rng: np.random.Generator, tick: int = 0, time_s: float | None = None) -> SiteImage:
        """`reconf.twin.observe.observe` with the usual noise, at the plant's own time by default."""
        from reconf.twin.observe import observe

        return observe(self, rng, tick, self.time_s if time_s is None else time_s)

    # ---- reading -------------------------------------------------------------------------------

    def _measures_at_rest(self) -> PlantMeasures:
        """Measures before the first step."""
        soh = self.truth.capacity_ah / self.bank.rated_capacity_ah[:, None]
        ocv = self.bank.ocv_v(self.cells.soc_frac, self.core_degc, soh)
        degc = (self.core_degc, self.surface_degc)
        return PlantMeasures.at_rest(ocv, self.bank.mask, degc, self.topology.n_strings, self.bus_voltage_v)

    def enthalpy_j(self) -> float:
        """Enthalpy in all groups against SOC 0 [J]: Q times the exact integral of U - T dU/dT over SOC."""
        return float(
            (group_enthalpy_j(self.bank, self.truth.capacity_ah, self.cells.soc_frac) * self._mask).sum()
        )

    @property
    def chemical_out_j(self) -> float:
        """What the cells have given since the start [J], from their state alone."""
        return self._enthalpy_start_j - self.enthalpy_j()
