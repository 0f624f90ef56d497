"""From a copper exposure on the site to a passport that refuses the module for ever."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from edge.cli.main import app
from edge.inventory.passport import passport
from edge.inventory.store import Inventory
from edge.store import Store
from reconf.protection.state import SavedFault

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXPOSED = SavedFault("copper_exposure", "M1", 1.21, 1.5)


@pytest.fixture
def places(tmp_path):
    inventory = Inventory.open(tmp_path / "inventory.sqlite3", create=True)
    received = {"chemistry": "NMC", "n_cells": 12, "rated_capacity_ah": 60.0}
    inventory.append([("M1", "received", received), ("M2", "received", received)], NOW)
    inventory.append([("M1", "accepted", {}), ("M2", "accepted", {})], NOW)
    inventory.close()
    with Store.open(tmp_path / "state") as store:
        rows = [
            EXPOSED.to_json(),
            SavedFault("cell_overvoltage", "M2", 4.3, 4.25).to_json(),
            SavedFault("copper_exposure", "FOREIGN", 1.0, 1.5).to_json(),
            SavedFault("of_a_later_version", "M2", float("nan"), float("nan")).to_json(),
        ]
        store.ledger.put("faults", rows, NOW)
    return tmp_path / "inventory.sqlite3", tmp_path / "state"


def run(places) -> str:
    inventory, state = places
    done = CliRunner().invoke(app, ["passport", "lockouts", str(inventory), "--state-dir", str(state)])
    assert done.exit_code == 0, done.output
    return done.output


def cards(places):
    inventory = Inventory.open(places[0])
    found = {serial: passport(serial, entries) for serial, entries in inventory.histories().items()}
    assert inventory.check() == ()
    inventory.close()
    return found


def test_a_locked_out_module_is_refused_for_ever_and_once(places) -> None:
    out = run(places)
    assert "M1: locked out" in out
    assert "FOREIGN: locked out on the site, not in this inventory" in out
    card = cards(places)["M1"]
    assert card.status == "refused"
    assert card.refusals[0]["reason"] == "copper_exposure"
    assert "1.21 V against 1.5 V" in card.refusals[0]["found"]
    assert cards(places)["M2"].status == "accepted"
    length = len(card.entries)
    run(places)
    assert len(cards(places)["M1"].entries) == length, "said once"
    inventory = Inventory.open(places[0])
    inventory.append([("M1", "accepted", {})], NOW)  # a later test found nothing
    inventory.close()
    assert cards(places)["M1"].status == "refused"


def test_saved_faults_survive_json_with_and_without_evidence() -> None:
    bit = SavedFault("emergency_stop", "site", float("nan"), float("nan"))
    text = json.dumps([EXPOSED.to_json(), bit.to_json()], allow_nan=False)
    first, second = (SavedFault.from_json(row) for row in json.loads(text))
    assert first == EXPOSED
    assert (second.fault, second.subject) == ("emergency_stop", "site")
    assert second.value != second.value
