"""Sites of any size for protection's benchmarks and tests, and an estimator that knows the truth."""

from __future__ import annotations

import numpy as np

from reconf.arrays import FloatArray
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
    ThermalSpec,
    TimingSpec,
)
from reconf.twin.plant import Plant

POSITIONS = 24
CELLS = 12
MODELS = {
    Chemistry.NMC: "nmc_generic",
    Chemistry.LFP: "lfp_generic",
    Chemistry.NCA: "nca_generic",
    Chemistry.LMO: "leaf_lmo",
}


def bench_site(
    modules: int,
    *,
    chemistry: Chemistry = Chemistry.NMC,
    n_parallel: int = 1,
    tick_s: float = 1.0,
    thermal: ThermalSpec | None = None,
) -> Site:
    """`modules` modules of 12 cells and 60 Ah in strings of up to 24, on one bus held by the PCS."""
    limits = default_limits(chemistry)
    low, high = limits["cell_voltage_v", "min"].operating, limits["cell_voltage_v", "max"].operating
    strings: list[StringSpec] = []
    for first in range(0, modules, POSITIONS):
        count = min(POSITIONS, modules - first)
        converter = ConverterSpec(
            gateway="twin", unit_id=201, power_rating_w=2_200.0 * count, current_rating_a=120.0,
            voltage_min_v=0.85 * low * CELLS * count, voltage_max_v=1.01 * high * CELLS * count,
            loss_fixed_w=40.0, loss_linear_frac=0.008, loss_quadratic_w_per_a2=0.02,
        )  # fmt: skip
        positions = tuple(
            PositionSpec(
                label=f"p{first + i}",
                gateway="twin",
                unit_id=1 + i,
                r_on_ohm=0.0005,
                module=ModuleSpec(
                    serial=f"M{first + i:05d}",
                    chemistry=chemistry,
                    cell_model=MODELS[chemistry],
                    n_cells=CELLS,
                    n_parallel=n_parallel,
                    rated_capacity_ah=60.0,
                    soh_frac=0.8,
                    soh_std_frac=0.03,
                    resistance_scale=1.3,
                    trim_rating_a=5.0,
                    trim_efficiency_frac=0.92,
                ),
            )
            for i in range(count)
        )
        strings.append(StringSpec(name=f"S{len(strings)}", converter=converter, positions=positions))
    return Site(
        name="bench",
        gateways=(GatewaySpec(name="twin", kind="tcp"),),
        strings=tuple(strings),
        bus=BusSpec(master="pcs", nominal_v=750.0, min_v=700.0, max_v=800.0),
        limits={chemistry: limits},
        timing=TimingSpec(tick_s=tick_s, slot_s=2.0 * tick_s, interval_s=30.0 * tick_s),
        thermal=thermal or ThermalSpec(),
        twin_soh_cv=0.1,
    )


def true_estimate(plant: Plant, *, doubt: float = 1.0) -> Estimate:
    """What a perfect estimator would say of `plant` now; `doubt` scales the usual standard deviations."""
    bank, truth, soc = plant.bank, plant.truth, plant.cells.soc_frac
    mask, capacity = bank.mask, plant.truth.capacity_ah
    point = bank.at(soc)
    warm0 = bank.r0_factor(plant.core_degc)[:, None] * truth.resistance_scale
    warm1 = bank.rc_factor(plant.core_degc)[:, None] * truth.resistance_scale

    def module(values: FloatArray) -> FloatArray:
        total: FloatArray = np.where(mask, values, 0.0).sum(axis=1)
        return total

    def extreme(values: FloatArray, fill: float) -> FloatArray:
        masked = np.where(mask, values, fill)
        found: FloatArray = masked.min(axis=1) if fill > 0.0 else masked.max(axis=1)
        return found

    ocv = module(bank.ocv_v(soc, plant.core_degc, capacity / bank.rated_capacity_ah[:, None]))
    r0 = module(point.r0_ohm * warm0)
    slow = module((point.r1_ohm + point.r2_ohm) * warm1)
    cells = plant.true.cell_voltage_v
    zero = np.zeros(ocv.shape)
    return Estimate(
        time_s=plant.time_s,
        soc_frac=module(soc * capacity) / module(capacity),
        soc_std_frac=zero + 0.005 * doubt,
        soc_weakest_frac=extreme(soc, 9.0),
        soc_strongest_frac=extreme(soc, -9.0),
        capacity_ah=extreme(capacity, 1e9),
        capacity_std_ah=zero + 0.5 * doubt,
        remaining_ah=extreme(soc * capacity, 1e9),
        remaining_std_ah=zero + 0.3 * doubt,
        chargeable_ah=extreme((1.0 - soc) * capacity, 1e9),
        ocv_v=ocv,
        ocv_slope_v_per_ah=module(point.slope_v / capacity),
        polarisation_v=ocv - r0 * plant.true.module_current_a - module(np.nan_to_num(cells)),
        r0_ohm=r0,
        resistance_ohm=r0 + slow,
        resistance_std_ohm=0.03 * doubt * (r0 + slow),
        temperature_degc=plant.core_degc.copy(),
        temperature_low_degc=plant.core_degc - 0.5 * doubt,
        temperature_high_degc=plant.core_degc + 0.5 * doubt,
        cell_voltage_min_v=extreme(cells, 99.0),
        cell_voltage_max_v=extreme(cells, -99.0),
        trusted=np.ones(ocv.shape, dtype=np.bool_),
    )
