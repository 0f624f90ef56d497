"""What the SunSpec devices say of a site. Pure: readings, estimate and envelope in, model values out.

Device (unit id) 1 is the site, 2 and on are its strings. Power and current are positive when discharging.
Indices of strings, modules and cells begin at 1, as SunSpec counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge.northbound.sunspec.layout import Value, Values, scale_for
from reconf import __version__
from reconf.arrays import BoolArray, FloatArray
from reconf.devices.rc1 import Rc1Status
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope, FaultStatus
from reconf.readings import SiteImage
from reconf.site import Chemistry, Site

NOMINAL_CELL_V = {Chemistry.LMO: 3.75, Chemistry.NMC: 3.65, Chemistry.LFP: 3.2, Chemistry.NCA: 3.6}
"""Cell voltage at half charge, for ratings in Wh only."""
LITHIUM_ION = 4
DC_DC = 6
FULL_FRAC, EMPTY_FRAC = 0.99, 0.01
IDLE_W = 50.0
"""Below this the site neither charges nor discharges."""

# Evt1 of models 802, 803 and 804, by the words in a fault's id
EVENTS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("stale", "silent", "no_answer", "communication", "frozen", "lost"), 0),
    (("hot", "temperature_max", "over_temperature", "thermal"), 1),
    (("cold", "temperature_min", "under_temperature"), 3),
    (("charge_current", "plating"), 5),
    (("discharge_current", "over_current"), 7),
    (("voltage_max", "over_voltage", "overvoltage"), 9),
    (("voltage_min", "under_voltage", "undervoltage"), 11),
)
STATE = {
    "off": 1,
    "precharge": 2,
    "run": 3,
    "standby": 4,
    "maintenance": 6,
    "fault": 99,
    "emergency_stop": 99,
}


@dataclass(frozen=True, slots=True)
class SiteState:
    """Everything the devices are made of, at one moment."""

    image: SiteImage
    estimate: Estimate
    envelope: Envelope
    mode: str
    """Mode of the site as its status names it."""
    local: bool = False
    """Somebody on site holds the control."""
    heartbeat: int = 0
    """Counts up once a second."""
    controller_heartbeat: int | None = None
    """CtrlHb as last written by the client."""
    set_point_w: float = 0.0
    set_point_on: bool = False
    revert_s: float | None = None
    """Revert time asked with the set point."""
    revert_left_s: float | None = None


@dataclass(frozen=True)
class Ratings:
    """What does not change, and the scales that follow from it."""

    site: Site
    module_wh: FloatArray
    """(M,) when new."""
    string_wh: FloatArray
    power_w: float
    """Sum of the converters' ratings."""
    wh_scale: int
    w_scale: int
    ah_scale: int

    @classmethod
    def of(cls, site: Site) -> Ratings:
        """From the site file."""
        nominal = [m.rated_capacity_ah * m.n_cells * NOMINAL_CELL_V[m.chemistry] for m in site.modules]
        wh = np.array(nominal)
        power = sum(s.converter.power_rating_w for s in site.strings)
        ah = float(site.topology.rated_capacity_ah.sum())
        # half as much again: a site may briefly deliver more than it is rated
        return cls(
            site,
            wh,
            site.topology.sum_by_string(wh),
            power,
            scale_for(1.5 * float(wh.sum())),
            scale_for(1.5 * power, "int16"),
            scale_for(1.5 * ah),
        )


def common(site: Site, model: str, serial: str, unit: int) -> Values:
    """Model 1."""
    return {"Mn": "reconf", "Md": model, "Opt": site.name, "Vr": __version__, "SN": serial, "DA": unit}


def _number(value: float) -> float | None:
    return None if not np.isfinite(value) else float(value)


def _total(values: FloatArray) -> float | None:
    """Sum, or None when any part is unknown: half a sum is a lie."""
    return _number(float(values.sum()))


@dataclass(frozen=True, slots=True)
class Extreme:
    """Highest, lowest and mean of some values, with the places of the first two."""

    high: Value = None
    high_at: tuple[int, ...] = ()
    low: Value = None
    low_at: tuple[int, ...] = ()
    mean: Value = None

    @classmethod
    def of(cls, values: FloatArray, usable: BoolArray) -> Extreme:
        """Over what is usable; empty when nothing is."""
        if not usable.any():
            return cls()
        high = np.unravel_index(np.where(usable, values, -np.inf).argmax(), values.shape)
        low = np.unravel_index(np.where(usable, values, np.inf).argmin(), values.shape)
        return cls(
            float(values[high]),
            tuple(int(k) for k in high),
            float(values[low]),
            tuple(int(k) for k in low),
            float(values[usable].mean()),
        )


def cells_of(state: SiteState, part: slice) -> Extreme:
    """Cell voltages of some modules."""
    channel = state.image.modules.cell_voltage_v
    return Extreme.of(channel.value[part], channel.usable[part])


def temperatures_of(state: SiteState, part: slice) -> Extreme:
    """Module temperatures of some modules, the hottest sensor of each counting for both ends."""
    channel = state.image.modules.temperature_degc
    return Extreme.of(channel.value[part], channel.usable[part])


def charge_of(ratings: Ratings, state: SiteState, part: slice) -> tuple[float | None, float | None]:
    """SOC and SOH in per cent, weighted by capacity."""
    capacity = state.estimate.capacity_ah[part]
    soc = 100.0 * float((state.estimate.soc_frac[part] * capacity).sum()) / float(capacity.sum())
    rated = float(ratings.site.topology.rated_capacity_ah[part].sum())
    return _bounded(soc), _bounded(100.0 * float(capacity.sum()) / rated)


def _bounded(percent: float) -> float | None:
    """Within what a percentage may say: estimates can pass either end by a hair."""
    return _number(float(np.clip(percent, 0.0, 100.0)))


def available_wh(estimate: Estimate) -> float:
    """Energy that can still leave the modules, one by one [Wh]: charge times mean open-circuit voltage."""
    mean_v = estimate.ocv_v - 0.5 * estimate.ocv_slope_v_per_ah * estimate.remaining_ah
    return float(np.maximum(estimate.remaining_ah * mean_v, 0.0).sum())


def events_of(faults: tuple[FaultStatus, ...], subjects: frozenset[str] | None) -> int:
    """Evt1 bits of the faults of some subjects; None: of all."""
    bits = 0
    for fault in faults:
        if subjects is None or fault.subject in subjects:
            for words, bit in EVENTS:
                if any(word in fault.fault for word in words):
                    # an alarm's bit is followed by that of its warning, but for lost communication
                    bits |= 1 << (bit + (bit > 0 and fault.severity in ("warn", "derate")))
    return bits


def severity_of(faults: tuple[FaultStatus, ...]) -> Literal[0, 1, 2]:
    """0 fine, 1 warning, 2 error."""
    if any(f.severity in ("open_string", "open_site") for f in faults):
        return 2
    return 1 if faults else 0


def storage_713(ratings: Ratings, state: SiteState) -> Values:
    """Model 713, storage capacity."""
    soc, soh = charge_of(ratings, state, slice(None))
    return {
        "WHRtg": float(ratings.module_wh.sum()),
        "WHAvail": _number(available_wh(state.estimate)),
        "SoC": soc,
        "SoH": soh,
        "Sta": severity_of(state.envelope.faults),
        "WH_SF": ratings.wh_scale,
        "Pct_SF": -1,
    }


def measure_714(ratings: Ratings, state: SiteState) -> tuple[Values, list[Values]]:
    """Model 714, DC measurement: a port for each converter, on the bus side."""
    strings = state.image.strings

    def seen(values: FloatArray, usable: BoolArray) -> FloatArray:
        return np.where(usable, values, np.nan)

    amps = seen(strings.bus_current_a.value, strings.bus_current_a.usable)
    watts = seen(strings.power_w.value, strings.power_w.usable)
    out = seen(strings.energy_out_kwh.value, strings.energy_out_kwh.usable) * 1e3
    into = seen(strings.energy_in_kwh.value, strings.energy_in_kwh.usable) * 1e3
    volts = seen(strings.bus_voltage_v.value, strings.bus_voltage_v.usable)
    warm = seen(strings.heatsink_temperature_degc.value, strings.heatsink_temperature_degc.usable)
    ports: list[Values] = [
        {
            "PrtTyp": DC_DC,
            "ID": k + 1,
            "IDStr": string.name,
            "DCA": _number(amps[k]),
            "DCV": _number(volts[k]),
            "DCW": _number(watts[k]),
            "DCWhInj": _number(out[k]),
            "DCWhAbs": _number(into[k]),
            "Tmp": _number(warm[k]),
            "DCSta": _port_state(int(strings.status[k])),
            "DCAlrm": _port_alarms(int(strings.status[k])),
        }
        for k, string in enumerate(ratings.site.strings)
    ]
    fixed: Values = {
        "PrtAlrms": sum(1 << k for k, port in enumerate(ports[:31]) if port["DCAlrm"]),
        "NPrt": len(ports),
        "DCA": _total(amps),
        "DCW": _total(watts),
        "DCWhInj": _total(out),
        "DCWhAbs": _total(into),
        "DCA_SF": -1,
        "DCV_SF": -1,
        "DCW_SF": ratings.w_scale,
        "DCWH_SF": 0,
        "Tmp_SF": -1,
    }
    return fixed, ports


def _port_state(status: int) -> int:
    if status & (Rc1Status.HARDWARE_FAULT | Rc1Status.EMERGENCY_STOP | Rc1Status.CONTACTOR_MISMATCH):
        return 3
    if status & (Rc1Status.WATCHDOG_EXPIRED | Rc1Status.OVER_TEMPERATURE):
        return 2
    return 1 if status & Rc1Status.RUNNING else 0


def _port_alarms(status: int) -> int:
    stopped = bool(status & Rc1Status.EMERGENCY_STOP)
    hot = bool(status & Rc1Status.OVER_TEMPERATURE)
    open_ = bool(status & Rc1Status.CONTACTOR_MISMATCH)
    return (stopped << 6) | (hot << 7) | (open_ << 3)


def battery_802(ratings: Ratings, state: SiteState) -> Values:
    """Model 802, battery base model, with its pair of heartbeats."""
    site, strings, envelope = ratings.site, state.image.strings, state.envelope
    soc, soh = charge_of(ratings, state, slice(None))
    watts = _total(np.where(strings.power_w.usable, strings.power_w.value, np.nan))
    amps = _total(np.where(strings.bus_current_a.usable, strings.bus_current_a.value, np.nan))
    bus_v = strings.bus_voltage_v
    cells = cells_of(state, slice(None))
    per_string = np.array([site.topology.rated_capacity_ah[site.topology.slice_of(s)].mean()
                           for s in range(len(site.strings))])  # fmt: skip
    horizon = envelope.capability
    bus_at = site.bus.nominal_v
    return {
        "AHRtg": float(per_string.sum()),
        "WHRtg": float(ratings.module_wh.sum()),
        "WChaRteMax": ratings.power_w,
        "WDisChaRteMax": ratings.power_w,
        "SoCMax": 100.0 * site.allocator.soc_max_frac,
        "SoCMin": 100.0 * site.allocator.soc_min_frac,
        "SoC": soc,
        "DoD": None if soc is None else 100.0 - soc,
        "SoH": soh,
        "ChaSt": _charge_state(soc, watts, state.mode),
        "LocRemCtl": int(state.local),
        "Hb": state.heartbeat & 0x7FFF,
        "CtrlHb": state.controller_heartbeat,
        "AlmRst": 0,
        "Typ": LITHIUM_ION,
        "State": STATE.get(state.mode, 1),
        "Evt1": events_of(envelope.faults, None),
        "Evt2": 0,
        "EvtVnd1": 0,
        "EvtVnd2": 0,
        "V": float(np.median(bus_v.value[bus_v.usable])) if bus_v.usable.any() else None,
        "VMax": site.bus.max_v,
        "VMin": site.bus.min_v,
        **_cell_places(ratings, cells),
        "CellVAvg": cells.mean,
        "A": amps,
        "AChaMax": horizon.charge_w[0] / bus_at if horizon.charge_w else None,
        "ADisChaMax": horizon.discharge_w[0] / bus_at if horizon.discharge_w else None,
        "W": watts,
        "SetOp": 1,
        "SetInvState": 3,
        "AHRtg_SF": ratings.ah_scale,
        "WHRtg_SF": ratings.wh_scale,
        "WChaDisChaMax_SF": scale_for(1.5 * ratings.power_w),
        "SoC_SF": -1,
        "DoD_SF": -1,
        "SoH_SF": -1,
        "V_SF": -1,
        "CellV_SF": -3,
        "A_SF": -1,
        "AMax_SF": -1,
        "W_SF": ratings.w_scale,
    }


def _charge_state(soc: float | None, watts: float | None, mode: str) -> int | None:
    if mode not in ("run", "standby"):
        return 1
    if watts is None or soc is None:
        return None
    if abs(watts) > IDLE_W:
        return 3 if watts > 0.0 else 4
    if soc >= 100.0 * FULL_FRAC:
        return 5
    return 2 if soc <= 100.0 * EMPTY_FRAC else 6


def _cell_places(ratings: Ratings, cells: Extreme) -> dict[str, Value]:
    """Highest and lowest cell with string and module, counted from 1."""
    out: dict[str, Value] = {"CellVMax": cells.high, "CellVMin": cells.low}
    topology = ratings.site.topology
    for name, at in (("CellVMax", cells.high_at), ("CellVMin", cells.low_at)):
        if at:
            string = int(topology.string_of[at[0]])
            out[f"{name}Str"] = string + 1
            out[f"{name}Mod"] = at[0] - int(topology.start[string]) + 1
    return out


def control_704(state: SiteState) -> Values:
    """Model 704, of which only the active power set point is implemented."""
    return {
        "WSetEna": int(state.set_point_on),
        "WSetMod": 1,
        "WSet": state.set_point_w,
        "WSetRvrtTms": state.revert_s,
        "WSetRvrtRem": state.revert_left_s,
        "WSet_SF": 0,
    }
