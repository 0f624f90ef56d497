"""A module that is not the one of the site file takes no part, and nothing is learned under its name; a node
whose own trips do not fit is told."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

sys.path.insert(0, str(Path(__file__).resolve().parent))
from daemon_rig import daemon_on, field_of, order, put_down, quick_site, until

from edge.core_values import SetMode
from edge.store.store import Store
from reconf.sequences import SiteMode
from reconf.twin.moving import swap_modules

pytestmark = pytest.mark.timeout(120)


async def test_strangers_are_kept_out_told_once_and_let_in_when_mended(tmp_path):
    site = quick_site()
    places = [site.positions[1].label, site.positions[5].label]
    rows = [1, 5]
    async with field_of(site) as twin:
        swap_modules(twin.bank, *places)
        async with daemon_on(twin, state_dir=tmp_path) as made:
            await until(made, lambda _v: len(made.core.state.strange) == 2)
            order(made, SetMode(SiteMode.RUN))
            view = await until(made, lambda v: v.mode is SiteMode.RUN)
            assert not view.in_force.inserted[rows].any()
            assert view.out_of_service[rows].all()
            await put_down(made)
            with Store.open(tmp_path, read_only=True) as store:
                kept = store.history.estimates()
            serials = site.topology.serials
            assert set(kept) == set(serials) - {serials[m] for m in rows}
            order(made, SetMode(SiteMode.OFF))
            await until(made, lambda v: set(v.phases) == {"open"})
            swap_modules(twin.bank, *places)  # put right: both nodes boot, which is noticed
            await until(made, lambda _v: not made.core.state.strange)
            view = await until(made, lambda v: not v.out_of_service[rows].any())
            assert np.all(view.estimate.trusted[rows])
        with Store.open(tmp_path, read_only=True) as store:
            told = [(e.subject, e.data["text"]) for e in store.ledger.events() if e.kind == "strange_module"]
    assert sorted(s for s, t in told if "kept out" in t) == sorted(serials[m] for m in rows)
    assert sorted(s for s, t in told if "again" in t) == sorted(serials[m] for m in rows)


async def test_a_node_that_would_trip_in_normal_service_is_told_once_with_its_register():
    site = quick_site()
    async with field_of(site) as twin:
        holding = twin.bank.rm1.bank.holding
        holding[2, 113] = 4150  # mV
        with capture_logs() as logs:
            async with daemon_on(twin) as made:
                await until(made, lambda v: told(logs) and v.input.image.modules.uptime_s.min() >= 4)
                swap_modules(twin.bank, site.positions[0].label, site.positions[1].label)  # those nodes boot
                await until(made, lambda _v: len(made.core.state.strange) == 2)
                assert len(told(logs)) == 1, "read again, and nothing new"
    (entry,) = told(logs)
    position = site.positions[2]
    assert (entry["node"], entry["unit_id"]) == (position.module.serial, position.unit_id)
    assert entry["register"] == "TRIP_CELL_MAX"
    assert "inside the operating limit of 4.2 V" in entry["found"]
    assert entry["log_level"] == "warning"


def told(logs):
    return [entry for entry in logs if entry["event"] == "node_trip"]
