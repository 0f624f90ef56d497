"""A capacity test of a running daemon: over the on-site door, by the command, and as an MQTT command."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "southbound"))
from daemon_rig import daemon_on, field_of, order, until
from southbound_rig import attached
from typer.testing import CliRunner
from yard_site import site_text

from edge.cli.main import app
from edge.core_values import SetMode, StartCapacityTest
from edge.northbound.actions import StartCapacityTest as Wire
from edge.orders import translate
from edge.setpoint import PowerCommand
from edge.store.store import Store
from reconf.config import load_site
from reconf.sequences import SiteMode

pytestmark = pytest.mark.timeout(120)


async def test_it_is_begun_shown_kept_over_a_restart_and_ended(tmp_path):
    file, folder = tmp_path / "yard.yaml", tmp_path / "state"
    file.write_text(site_text(""))

    async def captest(*more: str, code: int = 0) -> dict:
        out = tmp_path / "captest.json"
        args = ["captest", "--site", str(file), "--state-dir", str(folder), "--json", str(out), *more]
        got = await asyncio.to_thread(CliRunner().invoke, app, args)
        assert got.exit_code == code, (got.output, got.exception)
        return {"text": got.stderr, **(json.loads(out.read_text()) if code == 0 else {})}

    async with field_of(load_site(file), soc_frac=0.95) as twin:
        site = attached(load_site(file), twin.server)
        async with daemon_on(twin, state_dir=folder, site=site) as made:
            await until(made, lambda v: v.input.image.modules.answered.all())
            assert (await captest())["capacity_test"] is None
            assert "no string 'Z'" in (await captest("--start", "--yes", "--string", "Z", code=1))["text"]
            begun = await captest("--start", "--yes", "--string", "A")
            assert begun["capacity_test"]["running"]
            assert "is running" in (await captest("--start", "--yes", code=1))["text"]
            order(made, SetMode(SiteMode.RUN))
            await until(made, lambda v: v.mode is SiteMode.RUN)
            order(made, PowerCommand(900.0))
            view = await until(
                made, lambda v: v.capacity_test is not None and v.capacity_test.trials[0] is not None
            )
            trial = view.capacity_test.trials[0]
            m = site.topology.serials.index(trial.serial)
            # it is at the top already, so it rests, bypassed, while the others carry the power
            await until(made, lambda v: v.capacity_test.trials[0].phase.value == "rest_one")
            await until(made, lambda v: not v.in_force.inserted[m] and v.in_force.inserted.sum() >= 6)
            shown = await captest()
            assert shown["capacity_test"]["trials"][0]["serial"] == trial.serial
            assert f"{trial.serial}: rest one" in shown["text"]
        async with daemon_on(twin, state_dir=folder, site=site) as made:
            await until(made, lambda v: v.input.image.modules.answered.all())
            again = await captest()
            assert again["capacity_test"]["running"]  # what was running begins anew, the rest waits on
            count = len(again["capacity_test"]["waiting"][0]) + (
                again["capacity_test"]["trials"][0] is not None
            )
            assert count == 4
            assert (await captest("--stop"))["capacity_test"] is None
        with Store.open(folder, read_only=True) as store:
            assert any(e["action"] == "capacity_test" for e in store.ledger.audit_entries() if "action" in e)


def test_the_command_from_afar_is_the_same_order():
    command = SimpleNamespace(args=Wire(string="A", current_c=0.3), deadline_wall_s=0.0)
    asked = translate(command, now_s=0.0, wall_s=0.0, utc=datetime.now(UTC))
    assert asked == StartCapacityTest("A", 0.3, active=True)
