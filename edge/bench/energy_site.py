"""Sites for the energy benchmark: strings of equal length with a given number of spare positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

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
from reconf.twin.truth import Truth, draw_truth

CELLS = 12
RATED_AH = 60.0
SOH_MEAN = 0.8
C_RATE = 1.0 / 3.0
LOADED_END_V = {Chemistry.NMC: 2.95, Chemistry.NCA: 2.95, Chemistry.LMO: 2.95, Chemistry.LFP: 2.45}
"""Cell voltage under load when nearly empty: the window's bottom is what the needed modules have then."""
MODELS = {
    Chemistry.NMC: "nmc_generic",
    Chemistry.LFP: "lfp_generic",
    Chemistry.NCA: "nca_generic",
    Chemistry.LMO: "leaf_lmo",
}


COARSE = TimingSpec(tick_s=5.0, slot_s=10.0, interval_s=60.0)
FINE = TimingSpec(tick_s=2.5, slot_s=5.0, interval_s=60.0)
"""Protection looks a slot and a tick ahead: at the knee a coarse slot gives away its own length."""


def energy_site(
    modules: int, spares: int, cv: float, chemistry: Chemistry, strings: int = 2, timing: TimingSpec = COARSE
) -> Site:
    """`strings` strings of `modules` modules whose window is still met with `spares` of them bypassed."""
    limits = default_limits(chemistry)
    top_v = limits["cell_voltage_v", "max"].safety
    converter = ConverterSpec(
        gateway="twin", unit_id=201, power_rating_w=4.5 * CELLS * modules * RATED_AH,
        current_rating_a=2.0 * RATED_AH, voltage_min_v=LOADED_END_V[chemistry] * CELLS * (modules - spares),
        voltage_max_v=1.02 * top_v * CELLS * modules, loss_fixed_w=2.0 * modules, loss_linear_frac=0.012,
        loss_quadratic_w_per_a2=0.02,
    )  # fmt: skip
    return Site(
        name="energy",
        gateways=(GatewaySpec(name="twin", kind="tcp"),),
        strings=tuple(_string(k, modules, chemistry, converter) for k in range(strings)),
        bus=BusSpec(master="pcs", nominal_v=800.0, min_v=720.0, max_v=880.0),
        limits={chemistry: limits},
        timing=timing,
        twin_soh_cv=cv,
    )


def _string(k: int, modules: int, chemistry: Chemistry, converter: ConverterSpec) -> StringSpec:
    spec = ModuleSpec(
        serial="", chemistry=chemistry, cell_model=MODELS[chemistry], n_cells=CELLS, n_parallel=1,
        rated_capacity_ah=RATED_AH, soh_frac=SOH_MEAN, soh_std_frac=0.1, resistance_scale=1.3,
        trim_rating_a=5.0, trim_efficiency_frac=0.92,
    )  # fmt: skip
    positions = tuple(
        PositionSpec(
            label=f"{k}.{i}",
            gateway="twin",
            unit_id=1 + i,
            module=replace(spec, serial=f"E{k}{i:04d}"),
            r_on_ohm=0.0005,
        )
        for i in range(modules)
    )
    return StringSpec(name=f"S{k}", converter=converter, positions=positions)


def believed(site: Site, truth: Truth, soh_error: float, rng: np.random.Generator) -> Site:
    """`site` as graded: every module's SOH known with the relative error `soh_error`."""
    std = max(soh_error, 0.005)
    graded = truth.soh_frac * (1.0 + soh_error * rng.standard_normal(truth.soh_frac.size))
    modules = iter(zip(graded, strict=True))
    strings = []
    for string in site.strings:
        positions = []
        for position in string.positions:
            (soh,) = next(modules)
            module = replace(position.module, soh_frac=float(soh), soh_std_frac=std * float(soh))
            positions.append(replace(position, module=module))
        strings.append(replace(string, positions=tuple(positions)))
    return replace(site, strings=tuple(strings))


def full_truth(site: Site, seed: int) -> Truth:
    """Unequal modules, all just full."""
    top = 0.97
    return draw_truth(site, np.random.default_rng(seed), soc_frac=top)


def request_w(site: Site) -> float:
    """Bus power that is C/3 of the mean module over all modules of the site at mid voltage."""
    modules = len(site.modules)
    volts = 3.65 if site.modules[0].chemistry is not Chemistry.LFP else 3.2
    return modules * CELLS * volts * C_RATE * SOH_MEAN * RATED_AH
