"""Sites for hostile plans: many strings side by side, each one trial; and a twin that remembers extremes."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.estimation.state import Estimate
from reconf.protection.limits import default_limits
from reconf.site import (
    BusSpec,
    Chemistry,
    ConverterSpec,
    GatewaySpec,
    ModuleSpec,
    PositionSpec,
    Site,
    StringSpec,
    TimingSpec,
)
from reconf.twin.electrical import StepConstants, respond
from reconf.twin.plant import Plant
from reconf.twin.plant_state import SafetyLimits, ViolationCounter
from reconf.twin.truth import Truth

POSITIONS = 12
CELLS = 12
MODELS = {
    Chemistry.NMC: "nmc_generic",
    Chemistry.LFP: "lfp_generic",
    Chemistry.NCA: "nca_generic",
    Chemistry.LMO: "leaf_lmo",
}
DOUBT_FRAC = 0.15
"""R, Q and R_th of the twin lie within this share of what verify believes."""

MOVING_PER_H = 0.02
"""Per Ah; a smaller current is a converter's own loss, which no plan asks for."""
SETTLED_S = 3600.0
"""After so long a current the RC pairs have settled."""


def hostile_site(strings: int) -> Site:
    """`strings` strings of twelve, chemistries in turn, behind converters whose window lets a third rest."""
    built = []
    for number in range(strings):
        chemistry = list(MODELS)[number % len(MODELS)]
        limits = default_limits(chemistry)
        low = limits["cell_voltage_v", "min"].operating * CELLS * POSITIONS
        high = limits["cell_voltage_v", "max"].operating * CELLS * POSITIONS
        converter = ConverterSpec(
            gateway="twin", unit_id=201, power_rating_w=60_000.0, current_rating_a=150.0,
            voltage_min_v=0.7 * low, voltage_max_v=1.02 * high,
            loss_fixed_w=40.0, loss_linear_frac=0.012, loss_quadratic_w_per_a2=0.02,
        )  # fmt: skip
        module = ModuleSpec(
            serial="", chemistry=chemistry, cell_model=MODELS[chemistry], n_cells=CELLS, n_parallel=1,
            rated_capacity_ah=60.0, soh_frac=0.85, soh_std_frac=0.05, resistance_scale=1.3,
            trim_rating_a=5.0, trim_efficiency_frac=0.92,
        )  # fmt: skip
        positions = tuple(
            PositionSpec(f"{number}-{k}", "twin", 1 + k, replace(module, serial=f"H{number}-{k}"), 0.0005)
            for k in range(POSITIONS)
        )
        built.append(StringSpec(f"string {number}", converter, positions))
    return _site(tuple(built), 60.0)


def drawn_site(strings: int, rng: np.random.Generator) -> Site:
    """Strings of every shape: 1 to 24 modules of 1 to 15 groups, one to four cells each, 2 to 150 Ah."""
    built = []
    for number in range(strings):
        chemistry = list(MODELS)[number % len(MODELS)]
        limits = default_limits(chemistry)
        positions = int(rng.choice([1, 2, 3, 6, 12, 24]))
        rated = float(np.exp(rng.uniform(np.log(2.0), np.log(150.0))))
        specs = tuple(
            PositionSpec(
                f"{number}-{k}", "twin", 1 + k,
                ModuleSpec(
                    serial=f"H{number}-{k}", chemistry=chemistry, cell_model=MODELS[chemistry],
                    n_cells=int(rng.integers(1, 16)), n_parallel=int(rng.integers(1, 5)),
                    rated_capacity_ah=rated * float(rng.uniform(0.9, 1.1)),
                    soh_frac=float(rng.uniform(0.65, 0.98)),
                    soh_std_frac=0.03, resistance_scale=float(rng.uniform(0.9, 2.5)),
                    trim_rating_a=float(rng.choice([0.0, 2.0, 5.0, 10.0])),
                    trim_efficiency_frac=float(rng.uniform(0.85, 0.96)),
                ),
                float(np.exp(rng.uniform(np.log(1e-4), np.log(3e-3)))),
            )
            for k in range(positions)
        )  # fmt: skip
        groups = sum(p.module.n_cells for p in specs)
        low = limits["cell_voltage_v", "min"].operating * groups
        high = limits["cell_voltage_v", "max"].operating * groups
        rate_a = rated * float(rng.uniform(0.5, 3.5))
        converter = ConverterSpec(
            gateway="twin", unit_id=201, power_rating_w=high * rate_a * float(rng.uniform(0.5, 1.0)),
            current_rating_a=rate_a, voltage_min_v=low * float(rng.uniform(0.3, 0.95)),
            voltage_max_v=high * float(rng.uniform(0.95, 1.1)), loss_fixed_w=0.001 * high * rate_a,
            loss_linear_frac=float(rng.uniform(0.005, 0.03)),
            loss_quadratic_w_per_a2=0.02 * high / rate_a * float(rng.uniform(0.1, 1.0)),
        )  # fmt: skip
        built.append(StringSpec(f"string {number}", converter, specs))
    interval_s = float(rng.choice([10.0, 30.0, 60.0, 120.0, 300.0]))
    return _site(tuple(built), interval_s)


def master_site(strings: int) -> Site:
    """As `hostile_site`, with a bus that the first string holds."""
    site = hostile_site(strings)
    return replace(site, bus=replace(site.bus, master=site.strings[0].name))


def _site(strings: tuple[StringSpec, ...], interval_s: float) -> Site:
    """A site of these strings."""
    return Site(
        name="hostile",
        gateways=(GatewaySpec("twin", "tcp"),),
        strings=strings,
        bus=BusSpec("pcs", 800.0, 720.0, 880.0),
        limits={chemistry: default_limits(chemistry) for chemistry in MODELS},
        timing=TimingSpec(5.0, 10.0, interval_s),
    )


class Extremes(ViolationCounter):
    """Counts violations, and remembers the extremes of every module."""

    def __init__(self, rated_ah: FloatArray) -> None:
        super().__init__()
        self.rated_ah = rated_ah
        modules = rated_ah.size
        self.lowest_v, self.highest_v = np.full(modules, np.inf), np.full(modules, -np.inf)
        self.hottest_degc, self.coldest_degc = np.full(modules, -np.inf), np.full(modules, np.inf)
        self.most_a, self.least_a = np.full(modules, -np.inf), np.full(modules, np.inf)
        self.lowest_moving_v, self.highest_moving_v = np.full(modules, np.inf), np.full(modules, -np.inf)
        self.coldest_moving_degc = np.full(modules, np.inf)
        self.hottest_moving_degc = np.full(modules, -np.inf)
        self.coldest_charging_degc = np.full(modules, np.inf)
        self.hottest_charging_degc = np.full(modules, -np.inf)

    def watch(
        self,
        limits: SafetyLimits,
        mask: BoolArray,
        cell_v: FloatArray,
        degc: tuple[FloatArray, FloatArray],
        current_a: FloatArray,
        dt_s: float,
    ) -> None:
        """Look at one step's true state."""
        super().watch(limits, mask, cell_v, degc, current_a, dt_s)
        self.hottest_degc = np.maximum(self.hottest_degc, np.maximum(*degc))
        self.coldest_degc = np.minimum(self.coldest_degc, np.minimum(*degc))
        self.most_a, self.least_a = np.maximum(self.most_a, current_a), np.minimum(self.least_a, current_a)
        idle_a = MOVING_PER_H * self.rated_ah
        moving, charging = np.abs(current_a) > idle_a, current_a < -idle_a
        low, high = np.where(mask, cell_v, np.inf).min(axis=1), np.where(mask, cell_v, -np.inf).max(axis=1)
        self.lowest_v, self.highest_v = np.minimum(self.lowest_v, low), np.maximum(self.highest_v, high)
        self.lowest_moving_v = np.minimum(self.lowest_moving_v, np.where(moving, low, np.inf))
        self.highest_moving_v = np.maximum(self.highest_moving_v, np.where(moving, high, -np.inf))
        cold, hot = np.minimum(*degc), np.maximum(*degc)
        self.hottest_moving_degc = np.maximum(self.hottest_moving_degc, np.where(moving, hot, -np.inf))
        self.coldest_moving_degc = np.minimum(self.coldest_moving_degc, np.where(moving, cold, np.inf))
        self.coldest_charging_degc = np.minimum(self.coldest_charging_degc, np.where(charging, cold, np.inf))
        self.hottest_charging_degc = np.maximum(self.hottest_charging_degc, np.where(charging, hot, -np.inf))


class WatchedPlant(Plant):
    """The twin, remembering the extremes of every module since `forget`."""

    def __init__(self, site: Site, truth: Truth, ambient_degc: float | None = None) -> None:
        super().__init__(site, truth, ambient_degc)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.extremes = Extremes(self.topology.rated_capacity_ah)
        self.violations = self.extremes

    def twin(self) -> WatchedPlant:
        """A copy that goes its own way from here."""
        other = copy.copy(self)
        other.charge_out_ah = self.charge_out_ah.copy()
        other.energy = copy.deepcopy(self.energy)
        other.forget()
        return other

    def believed(self, rng: np.random.Generator | None) -> Estimate:
        """The estimate somebody would have whose R and Q are off by up to DOUBT_FRAC; None: the truth."""
        size, mask = self.topology.n_modules, self.bank.mask

        def off() -> FloatArray:
            spread = np.zeros(size) if rng is None else rng.uniform(-DOUBT_FRAC, DOUBT_FRAC, size)
            return 1.0 + spread

        answer = respond(
            self.bank, self._parameters(), self.cells, self.core_degc, StepConstants.of(self.bank, 1.0)
        )
        capacity = np.where(mask, self.truth.capacity_ah, np.inf).min(axis=1) * off()
        doubt = off()
        soc = np.where(mask, self.cells.soc_frac, np.nan)
        r0 = answer.r0_ohm.sum(axis=1)
        later = respond(
            self.bank, self._parameters(), self.cells, self.core_degc, StepConstants.of(self.bank, SETTLED_S)
        )
        # the mean of a long step holds the settled pairs and half the step's fall of the open-circuit voltage
        slow = (later.r_slow_ohm - 0.5 * SETTLED_S * later.slope_v_per_c * mask).sum(axis=1)
        ocv = (answer.ocv_v * mask).sum(axis=1)
        slope = (self.bank.docv_dsoc_v(self.cells.soc_frac) * mask).sum(axis=1) / capacity
        cells = np.where(mask, self.true.cell_voltage_v, np.nan)
        sure = 0.0 if rng is None else DOUBT_FRAC / np.sqrt(3.0)
        degc = np.maximum(self.core_degc, self.surface_degc)
        doubt_k = 0.0 if rng is None else 0.5
        behind = self.true.module_voltage_v + r0 * self.true.module_current_a
        return Estimate(
            time_s=self.time_s,
            soc_frac=np.nanmean(soc, axis=1),
            soc_std_frac=np.full(size, 0.01 if rng is not None else 0.0),
            soc_weakest_frac=np.nanmin(soc, axis=1),
            soc_strongest_frac=np.nanmax(soc, axis=1),
            capacity_ah=capacity,
            capacity_std_ah=sure * capacity,
            remaining_ah=np.maximum(np.nanmin(soc, axis=1), 0.0) * capacity,
            remaining_std_ah=0.02 * capacity,
            chargeable_ah=np.maximum(1.0 - np.nanmax(soc, axis=1), 0.0) * capacity,
            ocv_v=ocv,
            ocv_slope_v_per_ah=slope,
            polarisation_v=ocv - behind,
            r0_ohm=r0 * doubt,
            resistance_ohm=(r0 + slow) * doubt,
            resistance_std_ohm=sure * (r0 + slow),
            temperature_degc=degc,
            temperature_low_degc=np.minimum(self.core_degc, self.surface_degc) - doubt_k,
            temperature_high_degc=degc + doubt_k,
            cell_voltage_min_v=np.nanmin(cells, axis=1),
            cell_voltage_max_v=np.nanmax(cells, axis=1),
            trusted=np.ones(size, dtype=np.bool_),
        )
