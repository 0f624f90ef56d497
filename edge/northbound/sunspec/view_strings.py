"""The string and module side of the SunSpec view: models 803, 804 and 805. Pure."""

from __future__ import annotations

import numpy as np

from edge.northbound.sunspec.layout import Value, Values
from edge.northbound.sunspec.view import (
    Extreme,
    Ratings,
    SiteState,
    cells_of,
    charge_of,
    events_of,
    temperatures_of,
)
from reconf.devices.rc1 import Rc1Status
from reconf.readings import Channel

SCALES: dict[str, Value] = {
    "CellV_SF": -3,
    "ModTmp_SF": -1,
    "A_SF": -1,
    "SoH_SF": -1,
    "SoC_SF": -1,
    "V_SF": -1,
}
CONTACTOR_FAILURE, PRECHARGE_OK = 6, 0


def bank_803(ratings: Ratings, state: SiteState) -> tuple[Values, list[Values]]:
    """Model 803, lithium-ion bank: one row for each string."""
    strings, n = state.image.strings, ratings.site.topology.n_strings
    warm = temperatures_of(state, slice(None))
    volts = Extreme.of(strings.voltage_v.value, strings.voltage_v.usable)
    amps = Extreme.of(strings.current_a.value, strings.current_a.usable)
    closed = strings.answered & ((strings.status & Rc1Status.CONTACTOR_CLOSED) != 0)
    fixed: dict[str, Value] = {
        "NStr": n,
        "NStrCon": int(closed.sum()),
        "ModTmpMax": warm.high,
        "ModTmpMin": warm.low,
        "ModTmpAvg": warm.mean,
        "StrVMax": volts.high,
        "StrVMaxStr": _place(volts.high_at),
        "StrVMin": volts.low,
        "StrVMinStr": _place(volts.low_at),
        "StrVAvg": volts.mean,
        "StrAMax": amps.high,
        "StrAMaxStr": _place(amps.high_at),
        "StrAMin": amps.low,
        "StrAMinStr": _place(amps.low_at),
        "StrAAvg": amps.mean,
        **SCALES,
    }
    for name, at in (("ModTmpMax", warm.high_at), ("ModTmpMin", warm.low_at)):
        if at:
            string = int(ratings.site.topology.string_of[at[0]])
            fixed[f"{name}Str"] = string + 1
            fixed[f"{name}Mod"] = at[0] - int(ratings.site.topology.start[string]) + 1
    return fixed, [_bank_row(ratings, state, s) for s in range(n)]


def _bank_row(ratings: Ratings, state: SiteState, string: int) -> Values:
    common = _string_values(ratings, state, string)
    return {
        "StrNMod": common["NMod"],
        "StrSt": common["St"],
        "StrConFail": common["ConFail"],
        "StrSoC": common["SoC"],
        "StrSoH": common["SoH"],
        "StrA": common["A"],
        "StrCellVMax": common["CellVMax"],
        "StrCellVMaxMod": common["CellVMaxMod"],
        "StrCellVMin": common["CellVMin"],
        "StrCellVMinMod": common["CellVMinMod"],
        "StrCellVAvg": common["CellVAvg"],
        "StrModTmpMax": common["ModTmpMax"],
        "StrModTmpMaxMod": common["ModTmpMaxMod"],
        "StrModTmpMin": common["ModTmpMin"],
        "StrModTmpMinMod": common["ModTmpMinMod"],
        "StrModTmpAvg": common["ModTmpAvg"],
        "StrEvt1": common["Evt1"],
        "StrEvt2": 0,
    }


def _string_values(ratings: Ratings, state: SiteState, string: int) -> dict[str, Value]:
    """What 803 and 804 say alike of one string."""
    site, strings = ratings.site, state.image.strings
    part = site.topology.slice_of(string)
    soc, soh = charge_of(ratings, state, part)
    cells, warm = cells_of(state, part), temperatures_of(state, part)
    status = int(strings.status[string])
    closed = bool(status & Rc1Status.CONTACTOR_CLOSED)
    subjects = frozenset({site.strings[string].name, *(m.serial for m in site.modules[part])})
    return {
        "NMod": part.stop - part.start,
        "St": int(state.envelope.string_usable[string]) | (closed << 1),
        "ConFail": CONTACTOR_FAILURE if status & Rc1Status.CONTACTOR_MISMATCH else 0,
        "SoC": soc,
        "DoD": None if soc is None else 100.0 - soc,
        "SoH": soh,
        "A": _one(strings.current_a, string),
        "V": _one(strings.voltage_v, string),
        "CellVMax": cells.high,
        "CellVMaxMod": _place(cells.high_at),
        "CellVMin": cells.low,
        "CellVMinMod": _place(cells.low_at),
        "CellVAvg": cells.mean,
        "ModTmpMax": warm.high,
        "ModTmpMaxMod": _place(warm.high_at),
        "ModTmpMin": warm.low,
        "ModTmpMinMod": _place(warm.low_at),
        "ModTmpAvg": warm.mean,
        "ConSt": int(closed),
        "Evt1": events_of(state.envelope.faults, subjects),
        "Evt2": 0,
    }


def string_804(ratings: Ratings, state: SiteState, string: int) -> tuple[Values, list[Values]]:
    """Model 804, lithium-ion string: one row for each module."""
    part = ratings.site.topology.slice_of(string)
    fixed = {
        "Idx": string + 1,
        **_string_values(ratings, state, string),
        **SCALES,
        "DoD_SF": -1,
    }
    return fixed, [_module_row(state, ratings, i) for i in range(part.start, part.stop)]


def _module_row(state: SiteState, ratings: Ratings, module: int) -> Values:
    part = slice(module, module + 1)
    soc, soh = charge_of(ratings, state, part)
    cells, warm = cells_of(state, part), temperatures_of(state, part)
    return {
        "ModNCell": int(ratings.site.topology.n_cells[module]),
        "ModSoC": soc,
        "ModSoH": soh,
        "ModCellVMax": cells.high,
        "ModCellVMaxCell": _place(cells.high_at[1:]),
        "ModCellVMin": cells.low,
        "ModCellVMinCell": _place(cells.low_at[1:]),
        "ModCellVAvg": cells.mean,
        "ModCellTmpMax": warm.high,
        "ModCellTmpMin": warm.low,
        "ModCellTmpAvg": warm.mean,
    }


def module_805(ratings: Ratings, state: SiteState, module: int) -> tuple[Values, list[Values]]:
    """Model 805, lithium-ion module: one row for each cell group.

    Cells have no temperature sensors of their own, so theirs stays "not implemented".
    """
    site, modules = ratings.site, state.image.modules
    string = int(site.topology.string_of[module])
    part = slice(module, module + 1)
    soc, soh = charge_of(ratings, state, part)
    cells, warm = cells_of(state, part), temperatures_of(state, part)
    n_cells = int(site.topology.n_cells[module])
    fixed: Values = {
        "StrIdx": string + 1,
        "ModIdx": module - int(site.topology.start[string]) + 1,
        "NCell": n_cells,
        "SoC": soc,
        "DoD": None if soc is None else 100.0 - soc,
        "SoH": soh,
        "V": _one(modules.voltage_v, module),
        "CellVMax": cells.high,
        "CellVMaxCell": _place(cells.high_at[1:]),
        "CellVMin": cells.low,
        "CellVMinCell": _place(cells.low_at[1:]),
        "CellVAvg": cells.mean,
        "CellTmpMax": warm.high,
        "CellTmpMin": warm.low,
        "CellTmpAvg": warm.mean,
        "SN": site.modules[module].serial,
        "SoC_SF": -1,
        "SoH_SF": -1,
        "DoD_SF": -1,
        "V_SF": -2,
        "CellV_SF": -3,
        "Tmp_SF": -1,
    }
    channel = modules.cell_voltage_v
    rows: list[Values] = [
        {"CellV": float(channel.value[module, k]) if channel.usable[module, k] else None}
        for k in range(n_cells)
    ]
    return fixed, rows


def _place(at: tuple[int, ...]) -> int | None:
    """An index as SunSpec counts, or None where there is none."""
    return at[0] + 1 if at else None


def _one(channel: Channel, index: int) -> float | None:
    value = float(channel.value[index])
    return value if bool(channel.usable[index]) and np.isfinite(value) else None
