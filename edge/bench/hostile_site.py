"""Scenes for hostile plans: many short strings side by side, each one trial, in states drawn at random."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from reconf.actuation import SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.protection.limits import default_limits
from reconf.protection.protect import initial_protection, protect
from reconf.readings import SiteImage
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
from reconf.twin.plant_state import PlantInputs, SafetyLimits, ViolationCounter
from reconf.twin.truth import Truth, draw_truth

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
    return Site(
        name="hostile",
        gateways=(GatewaySpec("twin", "tcp"),),
        strings=tuple(built),
        bus=BusSpec("pcs", 800.0, 720.0, 880.0),
        limits={chemistry: default_limits(chemistry) for chemistry in MODELS},
        timing=TimingSpec(5.0, 10.0, 60.0),
    )


class Extremes(ViolationCounter):
    """Counts violations, and remembers the extremes of every module."""

    def __init__(self, modules: int) -> None:
        super().__init__()
        self.lowest_v, self.highest_v = np.full(modules, np.inf), np.full(modules, -np.inf)
        self.hottest_degc, self.coldest_degc = np.full(modules, -np.inf), np.full(modules, np.inf)
        self.most_a, self.least_a = np.full(modules, -np.inf), np.full(modules, np.inf)

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
        self.lowest_v = np.minimum(self.lowest_v, np.where(mask, cell_v, np.inf).min(axis=1))
        self.highest_v = np.maximum(self.highest_v, np.where(mask, cell_v, -np.inf).max(axis=1))
        self.hottest_degc = np.maximum(self.hottest_degc, np.maximum(*degc))
        self.coldest_degc = np.minimum(self.coldest_degc, np.minimum(*degc))
        self.most_a, self.least_a = np.maximum(self.most_a, current_a), np.minimum(self.least_a, current_a)


class WatchedPlant(Plant):
    """The twin, remembering the extremes of every module since `forget`."""

    def __init__(self, site: Site, truth: Truth, ambient_degc: float | None = None) -> None:
        super().__init__(site, truth, ambient_degc)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.extremes = Extremes(self.topology.n_modules)
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


@dataclass(frozen=True, slots=True)
class Scene:
    """One state of all strings: what is seen, what is believed, what full knowledge would allow."""

    site: Site
    plant: WatchedPlant
    image: SiteImage
    estimate: Estimate
    envelope: Envelope
    true_envelope: Envelope
    in_force: SlotCommand


def inputs_of(command: SlotCommand) -> PlantInputs:
    """Nodes that do at once what they are told."""
    return PlantInputs(
        inserted=command.inserted,
        duty_frac=np.where(command.duty_mode, command.duty_frac, 1.0),
        trim_setpoint_a=command.trim_current_a,
        mode=command.mode,
        power_setpoint_w=command.power_w,
        bus_voltage_setpoint_v=command.bus_voltage_v,
        current_limit_a=command.current_limit_a,
        contactor_closed=command.contactor,
    )


def draw_scene(site: Site, rng: np.random.Generator) -> Scene:
    """Strings joined and running at little power, each at a charge and temperature of its own."""
    topology = site.topology
    strings, of = topology.n_strings, topology.string_of
    truth = draw_truth(site, rng)
    level = rng.uniform(0.03, 0.98, strings)[of] + rng.normal(0.0, 0.04, topology.n_modules)
    soc = np.clip(level, 0.02, 0.99)[:, None] + rng.normal(0.0, 0.004, truth.soc_frac.shape)
    warm = rng.uniform(-10.0, 46.0, strings)[of] + rng.normal(0.0, 1.0, topology.n_modules)
    truth = replace(
        truth,
        soc_frac=np.clip(soc, 0.01, 0.995),
        temperature_degc=np.clip(warm, -12.0, 47.5),
        cooling_scale=rng.uniform(1.0 - DOUBT_FRAC, 1.0 + DOUBT_FRAC, topology.n_modules),
    )
    plant = WatchedPlant(site, truth)
    in_force = _quiet_command(site, plant, rng)
    plant.apply(inputs_of(in_force))
    for _ in range(3):
        plant.step(10.0)
    image = plant.observe(rng, 1)
    believed, known = plant.believed(rng), plant.believed(None)
    _, envelope = protect(site, initial_protection(site), image, believed, site.timing.tick_s)
    _, true_envelope = protect(site, initial_protection(site), image, known, site.timing.tick_s)
    return Scene(site, plant, image, believed, envelope, true_envelope, in_force)


def _quiet_command(site: Site, plant: Plant, rng: np.random.Generator) -> SlotCommand:
    """Random modules inserted, inside the window, at two percent of the power either way."""
    topology = site.topology
    strings = topology.n_strings
    low = np.array([s.converter.voltage_min_v for s in site.strings]) * 1.05
    aim = low + rng.uniform(0.0, 1.0, strings) * 0.2 * low
    volts = plant.true.module_voltage_v
    order = np.lexsort((rng.random(topology.n_modules), topology.string_of))
    total = np.cumsum(volts[order])
    start = np.concatenate(([0.0], total))[topology.start[:-1]]
    before = total - volts[order] - start[topology.string_of]
    inserted: BoolArray = np.zeros(topology.n_modules, dtype=np.bool_)
    inserted[order] = before < aim[topology.string_of]
    power = 0.02 * np.array([s.converter.power_rating_w for s in site.strings])
    return replace(
        SlotCommand.safe(topology.n_modules, strings),
        inserted=inserted,
        mode=np.ones(strings, dtype=np.int64),
        power_w=power * rng.choice([-1.0, 0.0, 1.0], strings),
        current_limit_a=np.full(strings, 10.0),
        contactor=np.ones(strings, dtype=np.bool_),
    )
