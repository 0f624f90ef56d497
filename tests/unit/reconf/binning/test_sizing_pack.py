"""Sizing: the textbook case and exactness of the enumeration."""

import pytest

from edge.sizing import parse_energy_wh
from reconf.errors import DataFileError, ParameterError
from reconf.sizing.pack import Need, Overheads, Unit, enumerate_packs

CELL = Unit(3.65, 5.0, 0.07, 0.03, 1.0)


def test_400_v_180_ah_of_5_ah_cells_is_110_in_series_36_in_parallel():
    best = enumerate_packs(CELL, Need(voltage_v=400.0, charge_ah=180.0), Overheads())[0]
    assert (best.series, best.parallel, best.units) == (110, 36, 3960)
    assert best.voltage_v == pytest.approx(401.5)
    assert best.charge_ah == pytest.approx(180.0)


def test_no_smaller_pack_meets_the_need():
    need = Need(voltage_v=48.0, energy_wh=3000.0, spares=2, voltage_max_v=80.0)
    best = enumerate_packs(CELL, need, Overheads())[0]
    every = [
        (s + 2) * p
        for s in range(1, 30)
        for p in range(1, 60)
        if s * 3.65 >= 48.0 and (s + 2) * 3.65 <= 80.0 and (s + 2) * p * 18.25 >= 3000.0
    ]
    assert best.units == min(every)


def test_what_is_missing_is_said():
    with pytest.raises(ParameterError, match="needs 3960 units at least; there are 100"):
        enumerate_packs(CELL, Need(voltage_v=400.0, charge_ah=180.0), Overheads(), available=100)
    with pytest.raises(ParameterError, match="neither"):
        enumerate_packs(CELL, Need(voltage_v=400.0), Overheads())


def test_energy_with_its_unit():
    assert parse_energy_wh("50kWh") == 50e3
    assert parse_energy_wh("0.2 MWh") == 2e5
    for bad in ("50", "kWh", "-3kWh", "50kW"):
        with pytest.raises(DataFileError, match="with its unit"):
            parse_energy_wh(bad)
