"""What the same modules give without bypass: each alone, in fixed strings, in strings sorted by capacity.

All three run on the physics of the twin from the same truth. They are favoured on purpose: strings share
the power by their true remaining charge, so that all of them end together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from reconf.actuation import ConverterMode
from reconf.arrays import FloatArray, IntArray
from reconf.protection.limits import Tier
from reconf.site import Site
from reconf.twin.plant import Plant
from reconf.twin.plant_state import PlantInputs
from reconf.twin.truth import Truth

PATIENCE_S = 60.0
"""A run ends when less than half of the request has been delivered for so long."""
LONGEST_S = 400.0 * 3600.0
"""No discharge that this module compares takes longer; a run that does is broken."""


@dataclass(frozen=True, slots=True)
class BaselineRun:
    """One discharge without bypass."""

    string_energy_kwh: float
    """String side: after R_on, before RC1 (for modules alone: at their terminals)."""
    bus_energy_kwh: float
    """At the DC bus; NaN for modules alone."""
    hours: float
    """Length of the run (of the longest module, when alone)."""
    charge_ah: FloatArray
    """(M,) charge that left each module, in the site order of the run."""


def cutoff_voltage_v(site: Site) -> FloatArray:
    """(M,) cell voltage under load at which a discharge ends: the operating limit, else the cell model's."""
    from reconf.cells import load_cell_model

    values = []
    for module in site.modules:
        row = site.limits.get(module.chemistry, {}).get(("cell_voltage_v", "min"))
        values.append(
            load_cell_model(module.cell_model).voltage_min_v if row is None else row.tier(Tier.OPERATING)
        )
    return np.array(values)


def ideal_energy(
    site: Site, truth: Truth, c_rate: float, *, ambient_degc: float | None = None, dt_s: float = 10.0
) -> BaselineRun:
    """Every module alone, from its initial state to the cut-off at `c_rate` times its rated capacity."""
    plant = Plant(site, truth, ambient_degc)
    cutoff = cutoff_voltage_v(site)
    full = c_rate * plant.bank.rated_capacity_ah
    active = np.ones(full.shape, dtype=np.bool_)
    energy_j = np.zeros(full.shape)
    charge = np.zeros(full.shape)
    before = _lowest_cell_v(plant)
    while active.any() and plant.time_s < LONGEST_S:
        work = plant.step_alone(np.where(active, full, 0.0), dt_s)
        after = _lowest_cell_v(plant)
        ends = active & (after <= cutoff)
        # the share of the last step until the voltage crossed the cut-off
        share = np.where(ends, (before - cutoff) / np.maximum(before - after, 1e-9), 1.0)
        share = np.where(active, np.clip(share, 0.0, 1.0), 0.0)
        energy_j += share * work
        charge += share * full * (dt_s / 3600.0)
        active &= ~ends
        before = after
    return BaselineRun(float(energy_j.sum()) / 3.6e6, float("nan"), plant.time_s / 3600.0, charge)


def fixed_series(
    site: Site, truth: Truth, power_w: float, *, ambient_degc: float | None = None, dt_s: float = 5.0
) -> BaselineRun:
    """All modules of a string always inserted; a string stops when its first cell is at the cut-off."""
    plant = Plant(site, truth, ambient_degc)
    topology = plant.topology
    cutoff = cutoff_voltage_v(site)
    rating = plant.converters.power_rating_w
    running = np.ones(topology.n_strings, dtype=np.bool_)
    inputs = replace(
        PlantInputs.safe(topology.n_modules, topology.n_strings),
        inserted=np.ones(topology.n_modules, dtype=np.bool_),
        mode=np.full(topology.n_strings, int(ConverterMode.POWER), dtype=np.int64),
        current_limit_a=plant.converters.current_rating_a,
    )
    short_s = 0.0
    while short_s < PATIENCE_S and plant.time_s < LONGEST_S:
        share = shared_power_w(power_w, remaining_charge_ah(plant), running, rating)
        plant.apply(replace(inputs, power_setpoint_w=share, contactor_closed=running))
        plant.step(dt_s)
        at_end = _lowest_cell_v(plant) <= cutoff
        running = running & ~(topology.sum_by_string(at_end.astype(np.float64)) > 0.0)
        delivered = float(plant.true.bus_power_w.sum())
        short_s = short_s + dt_s if delivered < 0.5 * power_w else 0.0
    return BaselineRun(
        plant.energy.string_energy_out_kwh,
        float(plant.energy.bus_out_j.sum()) / 3.6e6,
        plant.time_s / 3600.0,
        plant.charge_out_ah,
    )


def sorted_series(
    site: Site, truth: Truth, power_w: float, *, ambient_degc: float | None = None, dt_s: float = 5.0
) -> BaselineRun:
    """`fixed_series` after sorting the modules by usable charge and cutting the row into strings."""
    order = order_by_charge(truth, site)
    return fixed_series(
        rearranged_site(site, order),
        rearranged_truth(truth, order),
        power_w,
        ambient_degc=ambient_degc,
        dt_s=dt_s,
    )


def order_by_charge(truth: Truth, site: Site) -> IntArray:
    """(M,) modules by falling usable charge: their weakest group's capacity times its SOC."""
    mask = np.arange(site.topology.n_cells_max) < site.topology.n_cells[:, None]
    usable = np.where(mask, truth.capacity_ah * truth.soc_frac, np.inf).min(axis=1)
    order: IntArray = np.argsort(-usable, kind="stable").astype(np.int64)
    return order


def rearranged_site(site: Site, order: IntArray) -> Site:
    """`site` with module `order[k]` at its k-th position; wiring stays."""
    modules = site.modules
    strings = []
    k = 0
    for string in site.strings:
        positions = []
        for position in string.positions:
            positions.append(replace(position, module=modules[int(order[k])]))
            k += 1
        strings.append(replace(string, positions=tuple(positions)))
    return replace(site, strings=tuple(strings))


def rearranged_truth(truth: Truth, order: IntArray) -> Truth:
    """`truth` of the modules in `order`."""
    return Truth(**{name: getattr(truth, name)[order] for name in Truth.__dataclass_fields__})


def remaining_charge_ah(plant: Plant) -> FloatArray:
    """(S,) true charge of the weakest group of each string, which ends a fixed string."""
    per_module = np.where(plant.bank.mask, plant.cells.soc_frac * plant.truth.capacity_ah, np.inf).min(axis=1)
    result: FloatArray = np.minimum.reduceat(per_module, plant.topology.start[:-1])
    return result


def shared_power_w(
    power_w: float, weight: FloatArray, running: np.ndarray, rating_w: FloatArray
) -> FloatArray:
    """(S,) `power_w` by `weight` over the running strings, what exceeds a rating going to the others."""
    share = np.zeros(weight.shape)
    free = running.copy()
    left = power_w
    while left > 1e-6 and free.any():
        weights = np.where(free, np.maximum(weight, 1e-6), 0.0)
        share = share + left * weights / weights.sum()
        left = float(np.maximum(share - rating_w, 0.0).sum())
        share = np.minimum(share, rating_w)
        free &= share < rating_w
    return share


def _lowest_cell_v(plant: Plant) -> FloatArray:
    cells = plant.true.cell_voltage_v
    lowest: FloatArray = np.where(plant.bank.mask, cells, np.inf).min(axis=1)
    return lowest
