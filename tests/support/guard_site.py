"""A small site and hand-made readings for tests of verify, staging and sequences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reconf.actuation import SlotCommand
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Capability, Envelope
from reconf.protection.limits import default_limits
from reconf.readings import Channel, ModuleReadings, SiteImage, StringReadings
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

CELLS = 12
CELL_V = 3.7
MODULE_V = CELLS * CELL_V
R_OHM = 0.012


def guard_site(strings: int = 2, positions: int = 6, master: str = "pcs") -> Site:
    module = ModuleSpec("", Chemistry.NMC, "nmc_generic", CELLS, 1, 60.0, 0.8, 0.05, 1.3, 5.0, 0.92)
    converter = ConverterSpec(
        "g", 201, 12_000.0, 80.0, 0.6 * positions * MODULE_V, 1.15 * positions * MODULE_V, 20.0, 0.01, 0.02
    )
    return Site(
        name="guard",
        gateways=(GatewaySpec("g", "tcp"),),
        strings=tuple(
            StringSpec(
                f"S{s}",
                converter,
                tuple(
                    PositionSpec(f"{s}{k}", "g", k + 1, replace(module, serial=f"M{s}-{k}"), 0.0005)
                    for k in range(positions)
                ),
            )
            for s in range(strings)
        ),
        bus=BusSpec(master, 800.0, 720.0, 880.0),
        limits={Chemistry.NMC: default_limits(Chemistry.NMC)},
        timing=TimingSpec(1.0, 2.0, 30.0),
    )


def command(site: Site, *, inserted=None, power_w=0.0, limit_a=40.0, mode=1, contactor=True) -> SlotCommand:
    t = site.topology
    return replace(
        SlotCommand.safe(t.n_modules, t.n_strings),
        inserted=np.ones(t.n_modules, dtype=np.bool_) if inserted is None else np.asarray(inserted, np.bool_),
        power_w=np.full(t.n_strings, float(power_w)),
        current_limit_a=np.full(t.n_strings, float(limit_a)),
        mode=np.full(t.n_strings, mode, dtype=np.int64),
        contactor=np.full(t.n_strings, contactor, dtype=np.bool_),
    )


def image(
    site: Site,
    inserted=None,
    *,
    closed=True,
    status=0,
    current_a=0.0,
    module_v=MODULE_V,
    time_s=0.0,
    bus_v=800.0,
    link_v=None,
) -> SiteImage:
    """Readings of a site that does what `inserted` and `closed` say."""
    t = site.topology
    m, s, c = t.n_modules, t.n_strings, t.n_cells_max
    shown = np.ones(m, dtype=np.bool_) if inserted is None else np.asarray(inserted, np.bool_)
    shut = np.broadcast_to(np.asarray(closed, np.bool_), (s,))
    volts = np.broadcast_to(np.asarray(module_v, np.float64), (m,)).copy()
    sums = t.sum_by_string(np.where(shown, volts, 0.0))
    link = np.where(shut, sums, 0.0) if link_v is None else np.full(s, float(link_v))
    counters = np.zeros(m, dtype=np.int64)

    def of(value, shape) -> Channel:
        return Channel.of(np.broadcast_to(np.asarray(value, np.float64), shape).copy())

    return SiteImage(
        tick=1,
        time_s=time_s,
        modules=ModuleReadings(
            answered=np.ones(m, dtype=np.bool_),
            age_s=np.zeros(m),
            status=np.where(shown, int(Rm1Status.INSERTED), 0).astype(np.int64),
            voltage_v=of(volts, m),
            current_a=of(np.where(shown, current_a, 0.0), m),
            temperature_degc=of(25.0, (m, 2)),
            cell_voltage_v=of((volts / CELLS)[:, None], (m, c)),
            trim_current_a=of(0.0, m),
            charge_counter_ah=of(0.0, m),
            duty_frac=of(shown * 1.0, m),
            sample_counter=counters,
            heartbeat_echo=counters,
            uptime_s=counters,
            insert_count=counters,
        ),
        strings=StringReadings(
            answered=np.ones(s, dtype=np.bool_),
            age_s=np.zeros(s),
            status=np.where(shut, int(Rc1Status.CONTACTOR_CLOSED), 0).astype(np.int64) | status,
            voltage_v=of(sums, s),
            current_a=of(current_a, s),
            bus_voltage_v=of(bus_v, s),
            bus_current_a=of(0.0, s),
            power_w=of(0.0, s),
            link_voltage_v=of(link, s),
            heatsink_temperature_degc=of(30.0, s),
            energy_out_kwh=of(0.0, s),
            energy_in_kwh=of(0.0, s),
            sample_counter=np.zeros(s, dtype=np.int64),
            heartbeat_echo=np.zeros(s, dtype=np.int64),
        ),
    )


def silent(seen: SiteImage, *, modules=(), strings=()) -> SiteImage:
    """`seen`, but these nodes did not answer (their last values stand, marked stale)."""
    answered, shut_up = seen.modules.answered.copy(), seen.strings.answered.copy()
    answered[list(modules)] = False
    shut_up[list(strings)] = False
    return replace(
        seen,
        modules=replace(seen.modules, answered=answered, age_s=np.where(answered, seen.modules.age_s, 2.0)),
        strings=replace(seen.strings, answered=shut_up, age_s=np.where(shut_up, seen.strings.age_s, 2.0)),
    )


def estimate(site: Site, **changes) -> Estimate:
    m = site.topology.n_modules

    def full(value: float):
        return np.full(m, float(value))

    base = Estimate(
        time_s=0.0,
        soc_frac=full(0.5),
        soc_std_frac=full(0.01),
        soc_weakest_frac=full(0.49),
        soc_strongest_frac=full(0.51),
        capacity_ah=full(48.0),
        capacity_std_ah=full(1.0),
        remaining_ah=full(24.0),
        remaining_std_ah=full(1.0),
        chargeable_ah=full(24.0),
        ocv_v=full(MODULE_V),
        ocv_slope_v_per_ah=full(0.1),
        polarisation_v=full(0.0),
        r0_ohm=full(R_OHM),
        resistance_ohm=full(1.5 * R_OHM),
        resistance_std_ohm=full(0.001),
        temperature_degc=full(25.0),
        temperature_low_degc=full(24.0),
        temperature_high_degc=full(26.0),
        cell_voltage_min_v=full(CELL_V - 0.01),
        cell_voltage_max_v=full(CELL_V + 0.01),
        trusted=np.ones(m, dtype=np.bool_),
    )
    return replace(base, **changes)


def envelope(site: Site, **changes) -> Envelope:
    m, s = site.topology.n_modules, site.topology.n_strings
    low = np.array([x.converter.voltage_min_v for x in site.strings])
    high = np.array([x.converter.voltage_max_v for x in site.strings])
    base = Envelope(
        time_s=0.0,
        discharge_now_a=np.full(m, 60.0),
        charge_now_a=np.full(m, 45.0),
        discharge_avg_a=np.full(m, 60.0),
        charge_avg_a=np.full(m, 45.0),
        insertion=np.zeros(m, dtype=np.uint8),
        trim_give_a=np.full(m, 5.0),
        trim_take_a=np.full(m, 5.0),
        string_voltage_min_v=low,
        string_voltage_max_v=high,
        string_discharge_a=np.full(s, 80.0),
        string_charge_a=np.full(s, 80.0),
        string_discharge_w=np.full(s, 12_000.0),
        string_charge_w=np.full(s, 12_000.0),
        string_usable=np.ones(s, dtype=np.bool_),
        site_open=False,
        reasons=(),
        faults=(),
        capability=Capability((), (), ()),
    )
    return replace(base, **changes)
