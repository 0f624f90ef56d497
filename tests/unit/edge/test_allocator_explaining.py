"""A record written by one process is explained by another."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from edge.bench.closed_loop import Hooks, run_closed_loop, stop_after
from edge.bench.energy_site import energy_site, full_truth
from edge.core import ControlCore
from edge.core_values import IntervalRecord, TickOutcome
from edge.explaining import SiteTables, pick, read_record, situation
from edge.keeper import shared_tables
from edge.record_codec import encode
from edge.store.history import JournalEntry
from optimizer.explain import explain_module, explain_site
from reconf.errors import DataFileError
from reconf.sequences import SiteMode
from reconf.site import Chemistry
from reconf.twin.plant import Plant


def test_a_stored_record_is_explained_in_a_fresh_process() -> None:
    site = energy_site(6, 1, 0.1, Chemistry.NMC, 1)
    records: list[IntervalRecord] = []

    def keep(outcome: TickOutcome, plant: Plant, core: ControlCore) -> None:
        if outcome.record is not None:
            records.append(outcome.record)

    run_closed_loop(
        site, full_truth(site, 1), lambda _: 3000.0, stop=stop_after(400.0), hooks=Hooks(on_tick=keep)
    )
    payload = encode(records[-1], shared_tables(site))
    stamp = datetime(2026, 1, 2, tzinfo=UTC).isoformat()
    entry = JournalEntry(1, records[-1].interval, "interval", stamp, payload)
    fresh = energy_site(6, 1, 0.1, Chemistry.NMC, 1)
    now = situation(fresh, read_record(fresh, entry))
    assert now is not None
    assert now.plan is not None
    said = explain_site(fresh, now)
    assert any("planned 3.00 kW" in s for s in said)
    told = explain_module(fresh, now, fresh.topology.serials[2])
    assert "charged" in told[0]
    assert len(told) >= 2
    assert np.isfinite(now.plan.gap_frac)
    for mode, word in (
        (SiteMode.OFF, "is off"),
        (SiteMode.STANDBY, "in standby"),
        (SiteMode.FAULT, "opened"),
    ):
        rest = replace(now, mode=mode)
        assert any(word in s for s in explain_module(fresh, rest, fresh.topology.serials[2]))
        assert any(word in s for s in explain_site(fresh, rest))
        # a plan of before does not decide what a site at rest does
        assert not any("planned 3" in s for s in explain_site(fresh, rest))


def test_picks_the_last_whole_record_up_to_a_time() -> None:
    rows = [JournalEntry(k, k, "interval", f"2026-01-0{k}T00:00:00+00:00", b"") for k in (1, 2, 3)]
    rows.append(JournalEntry(4, 3, "summary", "2026-01-04T00:00:00+00:00", b""))
    last, earlier = pick(rows, None), pick(rows, datetime(2026, 1, 2, 12, tzinfo=UTC))
    assert last is not None
    assert last.number == 3
    assert earlier is not None
    assert earlier.number == 2
    assert pick(rows, datetime(2025, 1, 1, tzinfo=UTC)) is None


def test_a_record_may_not_name_code_of_others() -> None:
    with pytest.raises(DataFileError, match="not one of ours"):
        SiteTables(energy_site(2, 1, 0.1, Chemistry.NMC, 1))["os:system"]
