"""From what a site has learned to the passport: entered once, and a forecast with its interval."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from edge.bench.protect_site import bench_site
from edge.cli.main import app
from edge.inventory.life import expected_life
from edge.inventory.passport import passport
from edge.inventory.store import Inventory
from edge.report import life_rows
from edge.store import Store
from reconf.estimation.filter import initial_state
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def places(tmp_path):
    """An inventory with two modules of a site, and the site's store."""
    site = bench_site(12)
    plant = Plant(site, draw_truth(site, np.random.default_rng(1), soc_frac=0.6))
    saved = initial_state(site, plant.observe(np.random.default_rng(2))).saved()
    with Store.open(tmp_path / "state") as store:
        store.history.save_estimates({k: v.to_json() for k, v in saved.items()}, NOW)
    received = {"chemistry": "NMC", "n_cells": 12, "rated_capacity_ah": 60.0}
    grade = {"soh_frac": 0.84, "soh_low_frac": 0.81, "soh_high_frac": 0.87}
    inventory = Inventory.open(tmp_path / "lot.sqlite", create=True)
    inventory.append([(s, "received", received) for s in ("M00003", "M00007")], NOW - timedelta(days=700))
    inventory.append([("M00003", "graded", grade)], NOW - timedelta(days=690))
    inventory.close()
    return tmp_path


def run(*arguments):
    done = CliRunner().invoke(app, ["passport", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def card_of(places, serial):
    inventory = Inventory.open(places / "lot.sqlite")
    assert inventory.check() == ()
    card = passport(serial, inventory.history(serial))
    inventory.close()
    return card


def test_estimates_are_entered_once_with_what_they_rest_on(places):
    for _ in range(2):
        run("update", places / "lot.sqlite", "--state-dir", places / "state", "--yes")
    card = card_of(places, "M00007")
    assert len(card.estimates) == 1
    assert card.estimates[0]["soh_frac"] == pytest.approx(0.8, abs=0.02)
    assert 0.0 < card.estimates[0]["soh_std_frac"] < 0.1


def test_passport_tells_how_long_a_module_may_last(places):
    run("update", places / "lot.sqlite", "--state-dir", places / "state", "--yes")
    told = json.loads(run("show", places / "lot.sqlite", "M00003"))["expectedLifetime"]
    assert -0.05 < told["fade_per_year_frac"] < 0.0
    low, high = told["years_90"]
    assert low < told["years"] < high
    # the grade alone says less than grade and estimate together
    graded = [e for e in card_of(places, "M00003").entries if e.kind != "estimated"]
    alone = expected_life(passport("M00003", graded))
    both = expected_life(card_of(places, "M00003"))
    assert both.slope_std_per_year < alone.slope_std_per_year


def test_a_module_nobody_measured_has_no_expected_life(places):
    assert json.loads(run("show", places / "lot.sqlite", "M00007"))["expectedLifetime"] is None


def test_the_report_of_a_lot_tells_how_long_its_modules_may_last(places):
    run("update", places / "lot.sqlite", "--state-dir", places / "state", "--yes")
    head, *rows = life_rows([card_of(places, s) for s in ("M00007", "M00003")])
    assert head[0] == "serial"
    assert {row[0] for row in rows} == {"M00003", "M00007"}
    years = [float(row[3]) for row in rows]
    assert years == sorted(years)
    for row, at in zip(rows, years, strict=True):
        low, high = row[4].split(" .. ")
        assert float(low) < at
        assert high.startswith("over") or float(high) > at


def test_of_modules_nobody_measured_the_report_foretells_nothing(places):
    assert life_rows([card_of(places, "M00007")]) == []
