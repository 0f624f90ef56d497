"""The rivals of the allocator: rules that know every module's true charge, driven straight on the twin.

They are given what no real rule has (true charge, true cell voltages, no sensor noise, no verify, no
sequences), so that a lead over them is a lead of the idea and not of the estimator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from reconf.actuation import ConverterMode
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.site import Site
from reconf.twin.baselines import cutoff_voltage_v, order_by_charge, rearranged_site, rearranged_truth
from reconf.twin.plant import Plant
from reconf.twin.plant_state import PlantInputs
from reconf.twin.truth import Truth

DELIVERED_MIN_FRAC = 0.95
STEP_S = 5.0
"""Longest step of the physics; a rule decides once a slot of the site, as our schedule does."""
LONGEST_S = 12 * 3600.0
WINDOW_MARGIN = 1.01


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """One discharge under one policy."""

    energy_kwh: float
    """String side, while at least 95 % of the request was delivered."""
    hours: float
    switchings_per_module_hour: float
    violations: int


@dataclass(slots=True)
class Board:
    """What a rule sees of one string before a slot."""

    charge_ah: FloatArray
    """True charge of each module's weakest group."""
    volts: FloatArray
    """Terminal voltage each module would add."""
    alive: BoolArray
    """Not yet at its cut-off."""
    needed_v: float
    slot: int
    memory: dict[str, FloatArray] = field(default_factory=dict)


Rule = Callable[[Board], BoolArray]


def fixed(board: Board) -> BoolArray:
    """All in until the first is empty; then the string is over."""
    every: BoolArray = np.full(board.alive.shape, bool(board.alive.all()))
    return every


def static_bypass(board: Board) -> BoolArray:
    """The set of weak modules that is best left out for good, chosen once."""
    if "out" not in board.memory:
        board.memory["out"] = _best_left_out(board)
    chosen = board.memory["out"] < 0.5
    return chosen & bool((board.alive | ~chosen).all())


def _best_left_out(board: Board) -> FloatArray:
    """Leave out the k weakest with the largest (N - k)*(least charge of the rest) inside the window."""
    order = np.argsort(board.charge_ah)
    best, out = -1.0, np.zeros(board.charge_ah.size)
    for k in range(order.size):
        rest = order[k:]
        if board.volts[rest].sum() < board.needed_v:
            break
        value = rest.size * float(board.charge_ah[rest].min())
        if value > best:
            best, out = value, np.zeros(order.size)
            out[order[:k]] = 1.0
    return out


def drop_when_empty(board: Board) -> BoolArray:
    """All in; whatever is empty stays out."""
    return board.alive.copy()


def largest_first(board: Board) -> BoolArray:
    """The fullest modules that reach the window, sorted anew every slot."""
    return _reach(board, np.argsort(-np.where(board.alive, board.charge_ah, -np.inf)))


def proportional(board: Board) -> BoolArray:
    """Duty in proportion to what was there at the start, by error diffusion."""
    if "duty" not in board.memory:
        board.memory["duty"] = _proportional_duty(board)
        board.memory["debt"] = np.zeros(board.alive.size)
    debt = board.memory["debt"] + board.memory["duty"]
    chosen = _reach(board, np.argsort(-np.where(board.alive, debt, -np.inf)))
    board.memory["debt"] = debt - chosen
    return chosen


def _proportional_duty(board: Board) -> FloatArray:
    """d_i = min(1, alpha*r_i) with as many modules in as the window needs."""
    count = board.needed_v / max(float(board.volts.mean()), 1.0)
    low, high = 0.0, 10.0 / float(board.charge_ah.mean())
    for _ in range(60):
        alpha = 0.5 * (low + high)
        if np.minimum(alpha * board.charge_ah, 1.0).sum() < count:
            low = alpha
        else:
            high = alpha
    duty: FloatArray = np.minimum(high * board.charge_ah, 1.0)
    return duty


def _reach(board: Board, order: IntArray) -> BoolArray:
    """The first modules of `order` that are alive and together reach the window."""
    chosen = np.zeros(board.alive.size, dtype=np.bool_)
    volts = np.cumsum(np.where(board.alive[order], board.volts[order], 0.0))
    count = int(np.searchsorted(volts, board.needed_v)) + 1
    chosen[order[:count]] = True
    return chosen & board.alive


RULES: dict[str, Rule] = {
    "fixed": fixed,
    "sorted": fixed,
    "static_bypass": static_bypass,
    "drop_when_empty": drop_when_empty,
    "largest_first": largest_first,
    "proportional": proportional,
}


def run_rule(site: Site, truth: Truth, power_w: float, name: str) -> PolicyRun:
    """One discharge from `truth` at `power_w` under the rule `name`."""
    if name == "sorted":
        order = order_by_charge(truth, site)
        site, truth = rearranged_site(site, order), rearranged_truth(truth, order)
    plant, rule = Plant(site, truth), RULES[name]
    topology, cutoff = plant.topology, cutoff_voltage_v(site)
    alive = np.ones(topology.n_modules, dtype=np.bool_)
    memories: list[dict[str, FloatArray]] = [{} for _ in range(topology.n_strings)]
    switched, last, slot = 0, None, 0
    steps = max(round(site.timing.slot_s / STEP_S), 1)
    while plant.time_s < LONGEST_S:
        inserted, running = _choose(plant, rule, alive, memories, slot)
        plant.apply(_inputs(plant, inserted, running, power_w))
        before = plant.energy.string_energy_out_kwh
        for _ in range(steps):
            plant.step(site.timing.slot_s / steps)
        alive &= ~(inserted & (_lowest_cell_v(plant) <= cutoff))
        if float(plant.true.bus_power_w.sum()) < DELIVERED_MIN_FRAC * power_w:
            return _result(before, plant, switched)
        if last is not None:
            switched += int((inserted != last).sum())
        last, slot = inserted, slot + 1
    return _result(plant.energy.string_energy_out_kwh, plant, switched)


def _choose(
    plant: Plant, rule: Rule, alive: BoolArray, memories: list[dict[str, FloatArray]], slot: int
) -> tuple[BoolArray, BoolArray]:
    """Inserted modules (M,) and strings that run (S,)."""
    topology = plant.topology
    charge = true_remaining_ah(plant)
    inserted = np.zeros(topology.n_modules, dtype=np.bool_)
    running = np.zeros(topology.n_strings, dtype=np.bool_)
    held = plant.inputs.inserted
    sag = 0.02 * plant.true.module_voltage_v * ~held
    for s in range(topology.n_strings):
        where = topology.slice_of(s)
        needed = WINDOW_MARGIN * float(plant.converters.voltage_min_v[s])
        volts = (plant.true.module_voltage_v - sag)[where]
        board = Board(charge[where], volts, alive[where], needed, slot, memories[s])
        chosen = rule(board)
        running[s] = float(volts[chosen].sum()) >= float(plant.converters.voltage_min_v[s])
        inserted[where] = chosen
    return inserted, running


def _inputs(plant: Plant, inserted: BoolArray, running: BoolArray, power_w: float) -> PlantInputs:
    """Power shared by remaining charge over the strings that run."""
    topology = plant.topology
    weight = np.where(running, topology.sum_by_string(true_remaining_ah(plant) * inserted), 0.0)
    share = power_w * weight / max(float(weight.sum()), 1e-9)
    safe = PlantInputs.safe(topology.n_modules, topology.n_strings)
    return replace(
        safe,
        inserted=inserted,
        mode=np.full(topology.n_strings, int(ConverterMode.POWER), dtype=np.int64),
        power_setpoint_w=np.minimum(share, plant.converters.power_rating_w),
        current_limit_a=plant.converters.current_rating_a,
        contactor_closed=running,
    )


def true_remaining_ah(plant: Plant) -> FloatArray:
    """(M,) charge of each module's weakest group."""
    charge: FloatArray = np.where(
        plant.bank.mask, plant.cells.soc_frac * plant.truth.capacity_ah, np.inf
    ).min(axis=1)
    return charge


def _lowest_cell_v(plant: Plant) -> FloatArray:
    lowest: FloatArray = np.where(plant.bank.mask, plant.true.cell_voltage_v, np.inf).min(axis=1)
    return lowest


def _result(energy_kwh: float, plant: Plant, switched: int) -> PolicyRun:
    hours = plant.time_s / 3600.0
    rate = switched / plant.topology.n_modules / max(hours, 1e-9)
    return PolicyRun(energy_kwh, hours, rate, plant.violations.steps)
