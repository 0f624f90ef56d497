"""A module that is not the one of the site file takes no part, and nothing is learned under its name."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

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
