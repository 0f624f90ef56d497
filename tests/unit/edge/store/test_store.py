"""The state directory: what is stored, what is bounded, what fails and goes on."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.store import Store, StoreBounds
from edge.store.ledger import GENESIS, utc_text
from reconf.errors import StoreError

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def settle(store: Store, number: int, **changes: object) -> None:
    fields: dict[str, object] = {
        "utc": NOW,
        "command_id": f"id-{number}",
        "digest": f"digest-{number}",
        "reply": {"result": "accepted", "number": number},
        "sequence": ("scada", number),
        "audit": {"kind": "command", "number": number},
    }
    store.ledger.settle(**(fields | changes))  # type: ignore[arg-type]


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.ledger.put_all({"faults": [{"fault": "x"}], "mode": "run"}, NOW)
        settle(store, 3)
        store.ledger.append_events([("fault_raised", "M1", {"v": 1.5}), ("mode", "site", {})], NOW)
        store.history.save_estimates({"M1": {"soc": 0.5}, "M2": {"soc": 0.25}}, NOW)
        store.history.append_records([(7, "interval", b"\x00\xff")], NOW)
        store.history.outbox_put([("t", b"p", NOW)])
    with Store.open(tmp_path) as store:
        assert store.ledger.get("faults") == [{"fault": "x"}]
        assert store.ledger.get("mode") == "run"
        assert store.ledger.get("nothing") is None
        assert store.ledger.sequences() == {"scada": 3}
        kept = store.ledger.reply("id-3")
        assert kept is not None
        assert (kept.digest, kept.reply["number"]) == ("digest-3", 3)
        assert [e.kind for e in store.ledger.events("M1")] == ["fault_raised"]
        assert store.history.estimates()["M2"] == ({"soc": 0.25}, NOW)
        assert [(r.interval, r.payload) for r in store.history.records(0, 10)] == [(7, b"\x00\xff")]
        gap, unsent = store.history.outbox_take()
        assert gap is None
        assert [(u.topic, u.payload, u.utc) for u in unsent] == [("t", b"p", utc_text(NOW))]


def test_one_process_owns_the_directory(tmp_path: Path) -> None:
    with Store.open(tmp_path), pytest.raises(StoreError, match="another process owns"):
        Store.open(tmp_path)
    Store.open(tmp_path).close()


def test_reading_beside_a_running_daemon(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.ledger.put("mode", "run", NOW)
        with Store.open(tmp_path, read_only=True) as reader:
            assert reader.ledger.get("mode") == "run"
            with pytest.raises(StoreError):
                reader.ledger.put("mode", "off", NOW)
            store.ledger.put("mode", "standby", NOW)
            assert reader.ledger.get("mode") == "standby"


def test_outbox_overflow_leaves_an_honest_gap(tmp_path: Path) -> None:
    with Store.open(tmp_path, StoreBounds(outbox_rows=5)) as store:
        history = store.history
        times = [NOW + timedelta(seconds=i) for i in range(12)]
        lost = history.outbox_put([(f"t{i}", b"x", times[i]) for i in range(8)])
        lost += history.outbox_put([(f"t{i}", b"x", times[i]) for i in range(8, 12)])
        assert lost == 7
        gap, unsent = history.outbox_take(3)
        assert gap is not None
        assert (gap.dropped, gap.first_utc, gap.last_utc) == (7, utc_text(times[0]), utc_text(times[6]))
        assert [u.topic for u in unsent] == ["t7", "t8", "t9"]
        history.outbox_put([("t12", b"x", NOW)])  # one more drops t7 while the gap is on its way
        history.outbox_done([u.number for u in unsent], gap)
        later, rest = history.outbox_take()
        assert later is not None
        assert later.dropped == 1
        assert [u.topic for u in rest] == ["t10", "t11", "t12"]
        history.outbox_done([u.number for u in rest], later)
        assert history.outbox_take() == (None, [])


def test_journal_replies_and_events_are_rings(tmp_path: Path) -> None:
    with Store.open(tmp_path, StoreBounds(journal_rows=10, replies=4, events=3)) as store:
        for number in range(1, 26):
            store.history.append_records([(number, "interval", bytes([number]))], NOW)
            settle(store, number)
            store.ledger.append_events([("e", "site", {"n": number})], NOW)
        assert [r.interval for r in store.history.records(0, 100)] == list(range(16, 26))
        assert [r.interval for r in store.history.last_records(2)] == [24, 25]
        assert list(store.ledger.replies()) == [f"id-{n}" for n in range(22, 26)]
        assert [e.data["n"] for e in store.ledger.events()] == [23, 24, 25]
        assert store.ledger.verify_audit().entries == 25


def test_bdseq_counts_and_wraps(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        assert [store.ledger.next_bdseq(NOW) for _ in range(257)] == [*range(256), 0]


def test_audit_chain_holds_and_notices_every_change(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        assert store.ledger.audit_head() == GENESIS
        heads = [store.ledger.audit([{"n": n, "text": "größer"}], NOW) for n in range(5)]
        check = store.ledger.verify_audit()
        assert (check.entries, check.head, check.first_bad) == (5, heads[-1], None)
        assert store.ledger.audit_has(heads[2])
        assert [e["n"] for e in store.ledger.audit_entries(2)] == [3, 4]
    raw = sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute("UPDATE audit SET entry = '{}' WHERE number = 2")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute("DELETE FROM audit WHERE number = 5")
    raw.execute("DROP TRIGGER audit_no_update")
    raw.execute("DROP TRIGGER audit_no_delete")
    raw.execute("UPDATE audit SET entry = replace(entry, '\"n\":2', '\"n\":9') WHERE number = 3")
    with Store.open(tmp_path, read_only=True) as store:
        assert store.ledger.verify_audit().first_bad == 3
    raw.execute("DELETE FROM audit WHERE number = 2")
    with Store.open(tmp_path, read_only=True) as store:
        assert store.ledger.verify_audit().first_bad == 2
    raw.execute("DELETE FROM audit WHERE number > 1")
    with Store.open(tmp_path, read_only=True) as store:
        # a log cut off at the end is a good chain: only a head noted elsewhere shows it
        assert store.ledger.verify_audit().first_bad is None
        assert not store.ledger.audit_has(heads[-1])
    raw.close()


def test_full_disk_is_told_changes_nothing_and_passes(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.ledger.put("mode", "run", NOW)
        database = store.ledger._database
        pages = database.rows("PRAGMA page_count")[0][0]
        database.rows(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StoreError, match="full"):
            store.ledger.put_all({"mode": "off", "big": "x" * 100_000}, NOW)
        assert store.ledger.get("mode") == "run"
        assert store.ledger.get("big") is None
        database.rows("PRAGMA max_page_count=100000")
        store.ledger.put_all({"mode": "off", "big": "x" * 100_000}, NOW)
        assert store.ledger.get("mode") == "off"


def test_unusable_directories_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="state directory"):
        Store.open(tmp_path / "file")
    with pytest.raises(StoreError):
        Store.open(tmp_path / "nothing", read_only=True)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "ledger.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(tmp_path / "broken")


def test_files_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    raw = sqlite3.connect(tmp_path / "history.sqlite3")
    raw.execute("PRAGMA user_version=99")
    raw.close()
    with pytest.raises(StoreError, match="version 99"):
        Store.open(tmp_path)


def test_state_is_private(tmp_path: Path) -> None:
    Store.open(tmp_path / "new").close()
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0


def test_the_ledger_waits_for_the_disk(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        assert store.ledger._database.rows("PRAGMA synchronous") == [(2,)]
        assert store.history._database.rows("PRAGMA synchronous") == [(1,)]
        assert store.ledger._database.rows("PRAGMA journal_mode") == [("wal",)]
