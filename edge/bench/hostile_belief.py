"""What is believed of a scene's modules beyond wrong R and Q: errors of the state, and a blind envelope."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.bench.hostile_site import DOUBT_FRAC, WatchedPlant
from reconf.arrays import FloatArray
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope, Insertion
from reconf.protection.limits import Tier
from reconf.readings import SiteImage
from reconf.site import Site

REACH = 2.0
"""Errors stay within this many of the standard deviations that are told."""
SEEN_V = 0.02
"""An error of charge that would show as more than this at rest does not last."""
CURVE_V = 0.003
"""Standard deviation of a cell's open-circuit voltage against its model's."""


def normal(rng: np.random.Generator, size: int | tuple[int, ...]) -> FloatArray:
    """Standard normal draws within `REACH`."""
    draws: FloatArray = np.clip(rng.standard_normal(size), -REACH, REACH)
    return draws


def doubted(plant: WatchedPlant, known: Estimate, image: SiteImage, rng: np.random.Generator) -> Estimate:
    """`known` with errors of its state as large as it admits, held together by what the image shows."""
    bank, mask, size = plant.bank, plant.bank.mask, plant.topology.n_modules
    std = rng.uniform(0.005, 0.04, size)
    off = normal(rng, size) * std
    steep = np.nanmax(np.where(mask, bank.docv_dsoc_v(plant.cells.soc_frac), np.nan), axis=1)
    off = np.clip(off, -SEEN_V / steep, SEEN_V / steep)
    soc = plant.cells.soc_frac + off[:, None]
    soh = plant.truth.capacity_ah / bank.rated_capacity_ah[:, None]
    curve = normal(rng, size) * CURVE_V * bank.n_cells
    ocv = (bank.ocv_v(soc, plant.core_degc, soh) * mask).sum(axis=1) + curve
    # the true charge of every group with the error of the capacity and that of the state
    wrong = known.capacity_ah / np.where(mask, plant.truth.capacity_ah, np.inf).min(axis=1)
    left = np.where(mask, np.maximum(soc, 0.0) * plant.truth.capacity_ah, np.inf).min(axis=1) * wrong
    room = np.where(mask, np.maximum(1.0 - soc, 0.0) * plant.truth.capacity_ah, np.inf).min(axis=1) * wrong
    volts, amps = image.modules.voltage_v.value, image.modules.current_a.value
    behind = volts + known.r0_ohm * amps + normal(rng, size) * 0.001 * bank.n_cells
    around_k = rng.uniform(0.5, 2.0, size)
    best = plant.core_degc + rng.uniform(-1.0, 1.0, size) * around_k
    seen = np.where(mask, image.modules.cell_voltage_v.value, np.nan)
    within = np.where(mask, soc, np.nan)
    ohm = np.where(mask, plant.truth.resistance_scale, np.nan)
    worst = np.nanmax(ohm, axis=1) / np.nanmean(ohm, axis=1) * (1.0 + 0.03 * normal(rng, size))
    return replace(
        known,
        soc_frac=np.clip(np.nanmean(within, axis=1), 0.0, 1.0),
        soc_std_frac=std,
        soc_weakest_frac=np.clip(np.nanmin(within, axis=1), 0.0, 1.0),
        soc_strongest_frac=np.clip(np.nanmax(within, axis=1), 0.0, 1.0),
        remaining_ah=left,
        remaining_std_ah=np.hypot(std * known.capacity_ah, DOUBT_FRAC / np.sqrt(3.0) * left),
        chargeable_ah=room,
        ocv_v=ocv,
        group_resistance_frac=np.maximum(worst, 1.0),
        ocv_slope_v_per_ah=(bank.docv_dsoc_v(soc) * mask).sum(axis=1) / known.capacity_ah,
        polarisation_v=ocv - behind,
        temperature_degc=best,
        temperature_low_degc=best - around_k,
        temperature_high_degc=best + around_k,
        cell_voltage_min_v=np.nanmin(seen, axis=1),
        cell_voltage_max_v=np.nanmax(seen, axis=1),
    )


def blind(site: Site, envelope: Envelope, believed: Estimate) -> Envelope:
    """An envelope that allows whatever the safety tiers do, of every module, at any temperature."""

    def rate(quantity: str) -> FloatArray:
        return np.array([site.limits[m.chemistry][quantity, "max"].tier(Tier.SAFETY) for m in site.modules])

    size, strings = site.topology.n_modules, site.topology.n_strings
    trims = np.array([m.trim_rating_a for m in site.modules])
    spec = [s.converter for s in site.strings]
    amps = np.array([c.current_rating_a for c in spec])
    watts = np.array([c.power_rating_w for c in spec])
    return replace(
        envelope,
        discharge_now_a=rate("discharge_current_c") * believed.capacity_ah,
        charge_now_a=rate("charge_current_c") * believed.capacity_ah,
        insertion=np.full(size, int(Insertion.ALLOWED), dtype=np.uint8),
        trim_give_a=trims,
        trim_take_a=trims,
        string_voltage_min_v=np.array([c.voltage_min_v for c in spec]),
        string_voltage_max_v=np.array([c.voltage_max_v for c in spec]),
        string_discharge_a=amps,
        string_charge_a=amps,
        string_discharge_w=watts,
        string_charge_w=watts,
        string_usable=np.ones(strings, dtype=np.bool_),
        site_open=False,
    )
