"""What commissioning remembers between two runs, and when that is worth nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from guard_site import guard_site

from edge.wires.memory import FILE, Remembered, recall, remember, sole_user
from edge.wires.report import check_report, document, finding_tables, step_rows
from reconf.commissioning.outcome import Finding, StepOutcome, Verdict, by_reason
from reconf.commissioning.roster import Answerer
from reconf.errors import ConfigError, DataFileError

SITE = guard_site()
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROSTER = [Answerer("g", k + 1, "rm1", f"M0-{k}") for k in range(6)]
FOUND = Finding("M0-1", "01", "a", "b", "c")
OUTCOMES = {
    "switch": StepOutcome("switch", Verdict.FAIL, 6, (FOUND,), {"M0-2": "x"}, {"t_s": 1.5}),
    "answers": StepOutcome("answers", Verdict.PASS, 8),
}


def test_what_was_found_comes_back_as_it_was(tmp_path):
    assert recall(tmp_path, SITE, ROSTER, NOW) == ""
    remember(tmp_path, SITE, ROSTER, OUTCOMES, "began", NOW)
    assert recall(tmp_path, SITE, ROSTER, NOW + timedelta(hours=3)) == Remembered("began", OUTCOMES)


@pytest.mark.parametrize(
    ("site", "roster", "hours", "reason"),
    [
        (replace(SITE, name="other"), ROSTER, 1, "site file has changed"),
        (SITE, [*ROSTER[:5], replace(ROSTER[5], serial="M9")], 1, "other nodes"),
        (SITE, ROSTER, 25, "older than 24 hours"),
    ],
)
def test_it_is_worth_nothing_once_the_site_has_changed(tmp_path, site, roster, hours, reason):
    remember(tmp_path, SITE, ROSTER, OUTCOMES, "began", NOW)
    found = recall(tmp_path, site, roster, NOW + timedelta(hours=hours))
    assert reason in str(found)


def test_half_a_file_is_told_and_not_used(tmp_path):
    remember(tmp_path, SITE, ROSTER, OUTCOMES, "began", NOW)
    path = tmp_path / FILE
    path.write_text(path.read_text()[:100])
    assert "cannot be read" in str(recall(tmp_path, SITE, ROSTER, NOW))


def test_one_user_at_a_time(tmp_path):
    with sole_user(tmp_path), pytest.raises(ConfigError, match="Stop it first"), sole_user(tmp_path):
        pass
    with sole_user(tmp_path):
        pass


def test_the_report_names_what_was_found_and_what_was_not_tried(tmp_path):
    found = document(SITE, OUTCOMES, "2026-03-01T11:00:00+00:00", NOW)
    assert found["verdict"] == "fail"
    assert [row[2] for row in step_rows(found)[1:]].count("not tried") == 10
    tables = dict(finding_tables(found))
    assert tables["Faults"][1] == ("switch works both ways", "01 M0-1", "a", "b", "c")
    assert tables["Not tried"][1:] == [("switch works both ways", "M0-2", "x")]
    assert tables["Measured"][1:] == [("switch works both ways", "t", "1.5 s")]
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(DataFileError, match="no commissioning report"):
        check_report(tmp_path / "r.json")


def test_reasons_are_told_once():
    untried = {f"M{k}": "bus first" for k in range(9)} | {"M9": "switch first"}
    assert by_reason(untried) == [("bus first", "M0, M1, M2, M3, M4, M5 and 3 more"), ("switch first", "M9")]
