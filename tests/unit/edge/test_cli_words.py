"""What the command line tells a person who asked for what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import edge.state_dir
from edge.cli import audit, pki
from edge.cli.main import app
from edge.cli.send import make_command
from edge.modbus.server import TwinServer
from edge.modbus.twin_control import obey
from edge.state_dir import daemon_folder
from edge.store import Store
from edge.store.store import LEDGER_FILE
from reconf.config import load_site
from reconf.errors import ConfigError, StoreError
from reconf.site import Site
from reconf.twin.firmware import NodeBank
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

NOBODY: Any = None


@pytest.fixture
def demo() -> Site:
    return load_site("demo")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The user's own state directory of the demo site, and the service's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(edge.state_dir, "SERVICE", tmp_path / "service")
    return tmp_path / "home" / "reconf" / "demo", tmp_path / "service"


def test_state_directory_is_found_own_first_then_the_service(places: tuple[Path, Path]) -> None:
    own, service = places
    with pytest.raises(StoreError, match=f"{own} nor in {service}"):
        daemon_folder("demo", None, LEDGER_FILE)
    Store.open(service).close()
    assert daemon_folder("demo", None, LEDGER_FILE) == service
    assert daemon_folder("", None, LEDGER_FILE) == service
    Store.open(own).close()
    assert daemon_folder("demo", None, LEDGER_FILE) == own
    assert daemon_folder("demo", service, LEDGER_FILE) == service


def test_audit_finds_the_log_and_says_where(places: tuple[Path, Path]) -> None:
    _, service = places
    runner = CliRunner()
    assert runner.invoke(audit.app, ["verify"]).exit_code == 2
    Store.open(service).close()
    for words in (["verify"], ["verify", "--site", "demo"], ["show"]):
        found = runner.invoke(audit.app, words)
        assert found.exit_code == 0
        assert f"state directory {service}" in found.stderr


def test_explain_says_where_it_looked(places: tuple[Path, Path]) -> None:
    own, service = places
    nothing = CliRunner().invoke(app, ["explain", "--site", "demo"])
    assert nothing.exit_code == 2
    assert str(own) in nothing.stderr
    assert str(service) in nothing.stderr


def test_unknown_signal_or_plant_fault_is_answered_with_the_names(demo: Site) -> None:
    rng = np.random.default_rng(1)
    server = TwinServer(NodeBank(demo, Plant(demo, draw_truth(demo, rng)), rng))
    with pytest.raises(ConfigError, match=r"no signal 'gass_alarm'; there are .*gas_alarm"):
        obey(server, NOBODY, {"do": "input", "signal": "gass_alarm", "value": 1})
    with pytest.raises(ConfigError, match=r"no fault 'nothing'; there are .*leak"):
        obey(server, NOBODY, {"do": "plant", "fault": "nothing", "index": 0, "value": 1})
    with pytest.raises(ConfigError, match="lacks 'value'"):
        obey(server, NOBODY, {"do": "input", "signal": "gas_alarm"})


@pytest.mark.parametrize("mode", ["flying", "maintenance", "off", 3])
def test_send_offers_the_modes_that_can_be_asked_for(demo: Site, mode: object) -> None:
    with pytest.raises(ConfigError, match=r"standby or run; off is asked for on site .*maintenance take"):
        make_command(demo, "set_mode", {"mode": mode}, issuer="cli", expires_s=60.0, key=None)


def test_signer_prints_the_role_it_was_given(tmp_path: Path) -> None:
    runner = CliRunner()
    made = runner.invoke(pki.app, ["signer", "ana", "--dir", str(tmp_path), "--role", "engineer"])
    assert "issuers: [{name: ana, role: engineer, public_key: " in made.output
    assert "role: operator" in runner.invoke(pki.app, ["signer", "plc", "--dir", str(tmp_path)]).output
    wrong = runner.invoke(pki.app, ["signer", "bob", "--dir", str(tmp_path), "--role", "boss"])
    assert wrong.exit_code == 2
    assert "observer, operator, engineer" in wrong.stderr
    assert not (tmp_path / "bob.sign.pem").exists()
