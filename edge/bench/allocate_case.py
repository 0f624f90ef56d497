"""Drawn intervals for the allocator's benchmark: unequal modules at any state, discharge and charge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.bench.energy_site import CELLS, RATED_AH, energy_site
from optimizer.result import AllocationInput, Request
from reconf.arrays import FloatArray
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Capability, Envelope
from reconf.site import Chemistry, Site

R_OHM = 0.018
SPARE_FRAC = 0.125


def draw_case(modules: int, strings: int, seed: int) -> tuple[Site, AllocationInput]:
    """A site and one question to its allocator."""
    rng = np.random.default_rng(seed)
    per_string = max(modules // strings, 2)
    site = energy_site(per_string, max(round(SPARE_FRAC * per_string), 1), 0.13, Chemistry.NMC, strings)
    n = per_string * strings
    capacity = RATED_AH * np.clip(rng.normal(0.8, 0.104, n), 0.4, 1.1)
    soc = np.clip(rng.uniform(0.05, 0.95) + 0.02 * rng.standard_normal(n), 0.01, 0.99)
    estimate = drawn_estimate(soc, capacity, R_OHM * rng.lognormal(0.0, 0.15, n))
    c_rate = rng.uniform(0.05, 0.5) * (1.0 if rng.random() < 0.6 else -1.0)
    request = Request(
        power_w=c_rate * float(estimate.ocv_v @ capacity), connected=np.ones(strings, dtype=np.bool_)
    )
    envelope = drawn_envelope(site, estimate, rng)
    return site, AllocationInput(seed, estimate, envelope, request, rng.random(n) < 0.9)


def drawn_estimate(soc: FloatArray, capacity_ah: FloatArray, resistance_ohm: FloatArray) -> Estimate:
    """An estimate of modules at rest with a plain NMC-like curve."""
    n, one = soc.size, np.ones(soc.size)
    ocv = CELLS * (3.35 + 0.8 * soc - 0.5 * np.exp(-soc / 0.03))
    return Estimate(
        time_s=0.0,
        soc_frac=soc,
        soc_std_frac=0.01 * one,
        soc_weakest_frac=soc,
        soc_strongest_frac=soc,
        capacity_ah=capacity_ah,
        capacity_std_ah=0.02 * capacity_ah,
        remaining_ah=soc * capacity_ah,
        remaining_std_ah=0.01 * capacity_ah,
        chargeable_ah=(1.0 - soc) * capacity_ah,
        ocv_v=ocv,
        ocv_slope_v_per_ah=CELLS * 0.8 / capacity_ah,
        polarisation_v=np.zeros(n),
        r0_ohm=0.7 * resistance_ohm,
        resistance_ohm=resistance_ohm,
        resistance_std_ohm=0.1 * resistance_ohm,
        temperature_degc=25.0 * one,
        temperature_low_degc=24.0 * one,
        temperature_high_degc=26.0 * one,
        cell_voltage_min_v=ocv / CELLS,
        cell_voltage_max_v=ocv / CELLS,
        trusted=np.ones(n, dtype=np.bool_),
    )


def drawn_envelope(site: Site, estimate: Estimate, rng: np.random.Generator) -> Envelope:
    """Limits with a few hot, weak or forbidden modules among many free ones."""
    n, s = estimate.soc_frac.size, len(site.strings)
    now = np.where(rng.random(n) < 0.05, rng.uniform(10.0, 40.0, n), 90.0)
    average = np.minimum(now, np.where(rng.random(n) < 0.05, rng.uniform(5.0, 20.0, n), 60.0))
    converter = [string.converter for string in site.strings]
    insertion = (rng.random(n) < 0.01).astype(np.uint8)
    trim = np.full(n, 5.0)
    return Envelope(
        time_s=0.0,
        discharge_now_a=np.where(insertion == 1, 0.0, now),
        charge_now_a=np.where(insertion == 1, 0.0, 0.7 * now),
        discharge_avg_a=np.where(insertion == 1, 0.0, average),
        charge_avg_a=np.where(insertion == 1, 0.0, 0.7 * average),
        insertion=insertion,
        trim_give_a=trim,
        trim_take_a=trim,
        string_voltage_min_v=np.array([c.voltage_min_v for c in converter]),
        string_voltage_max_v=np.array([c.voltage_max_v for c in converter]),
        string_discharge_a=np.array([c.current_rating_a for c in converter]),
        string_charge_a=np.array([c.current_rating_a for c in converter]),
        string_discharge_w=np.array([c.power_rating_w for c in converter]),
        string_charge_w=np.array([c.power_rating_w for c in converter]),
        string_usable=np.ones(s, dtype=np.bool_),
        site_open=False,
        reasons=(),
        faults=(),
        capability=Capability((), (), ()),
    )


def without_trim(asked: AllocationInput) -> AllocationInput:
    """The same question to a site without trim converters."""
    none = np.zeros(asked.estimate.soc_frac.size)
    return replace(asked, envelope=replace(asked.envelope, trim_give_a=none, trim_take_a=none))
