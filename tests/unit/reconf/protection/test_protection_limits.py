"""Limit tables: the shipped ones are sound, every contradiction is named, documents are current."""

from dataclasses import replace
from pathlib import Path

import pytest

from reconf.errors import ConfigError
from reconf.protection.limits import Tier, check_tiers, default_limits, site_limits
from reconf.protection.tables import faults_markdown, limits_markdown

DOCS = Path(__file__).resolve().parents[4] / "docs"
CHEMISTRIES = ("LMO", "NMC", "LFP", "NCA")


@pytest.mark.parametrize("chemistry", CHEMISTRIES)
def test_shipped_tables_are_sound(chemistry):
    assert check_tiers(default_limits(chemistry)) == []


@pytest.mark.parametrize("chemistry", ["PbA", "sources", "site", "common"])
def test_unknown_chemistry_is_refused(chemistry):
    with pytest.raises(ConfigError, match="no limits"):
        default_limits(chemistry)


@pytest.mark.parametrize("chemistry", CHEMISTRIES)
def test_core_limit_is_fifty_degrees(chemistry):
    row = default_limits(chemistry)["temperature_degc", "max"]
    assert row.tier(Tier.SAFETY) + 273.15 == pytest.approx(323.15)
    assert row.operating < row.recommended < row.safety


@pytest.mark.parametrize(
    ("key", "change", "says"),
    [
        (("cell_voltage_v", "max"), {"operating": 4.23}, "operating 4.23 must not lie outside recommended"),
        (("cell_voltage_v", "min"), {"recommended": 2.6}, "recommended 2.6 must lie inside safety 2.7"),
        (("cell_voltage_v", "min"), {"recommended": 3.1}, "operating 3 must not lie outside recommended 3.1"),
        (("cell_voltage_v", "max"), {"hysteresis": -0.1}, "hysteresis -0.1 must not be negative"),
        (("cell_voltage_v", "max"), {"hysteresis": 1.1}, "must be below the operating span"),
        (("temperature_degc", "max"), {"debounce_s": -1.0}, "debounce_s -1 must not be negative"),
        (("temperature_degc", "max"), {"safety": float("nan")}, "every number must be finite"),
        (("charge_temperature_degc", "max"), {"safety": 55.0}, "safety 55 must lie inside temperature_degc"),
        (("soc_frac", "min"), {"quantity": "soc"}, "the row calls itself soc min"),
        (
            ("soc_frac", "max"),
            {"operating": 0.0, "recommended": 0.01, "safety": 0.02, "hysteresis": 0.0},
            "operating min 0 must lie below operating max 0",
        ),
    ],
)
def test_each_contradiction_is_named(key, change, says):
    table = dict(default_limits("NMC"))
    table[key] = replace(table[key], **change)
    assert any(says in line for line in check_tiers(table)), check_tiers(table)


def test_missing_row_is_named():
    table = dict(default_limits("LFP"))
    del table["charge_current_c", "max"]
    assert check_tiers(table) == ["charge_current_c max: row is missing"]


def test_all_findings_at_once():
    table = dict(default_limits("NMC"))
    del table["soc_frac", "min"]
    table["cell_voltage_v", "max"] = replace(table["cell_voltage_v", "max"], operating=9.0, debounce_s=-1.0)
    assert len(check_tiers(table)) >= 3


def test_site_rows_are_ordered():
    for row in site_limits().values():
        sign = 1.0 if row.side == "max" else -1.0
        assert sign * row.operating <= sign * row.recommended < sign * row.safety


@pytest.mark.parametrize(("name", "text"), [("limits.md", limits_markdown), ("faults.md", faults_markdown)])
def test_generated_documents_are_current(name, text):
    assert (DOCS / name).read_text(encoding="utf-8") == text()
