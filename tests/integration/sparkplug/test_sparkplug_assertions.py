"""Sparkplug 3.0.0 against an outside host, two real brokers and a wire that is listened to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sparkplug_matrix
from sparkplug_checks import Check
from sparkplug_rig import outside_host
from sparkplug_story import Record, tell

DOC = Path(__file__).resolve().parents[3] / "docs" / "protocols" / "sparkplug-assertions.md"
CHECKS = [*(check for check, _ in sparkplug_matrix.SHOWN), *sparkplug_matrix.BEYOND]
pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.xdist_group("sparkplug"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    outside_host()
    return asyncio.run(tell(tmp_path_factory.mktemp("sparkplug")))


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_assertion(record: Record, check: Check) -> None:
    check(record)


def test_matrix_in_the_docs_is_current(record: Record) -> None:
    results = {}
    for check in CHECKS:
        try:
            check(record)
        except AssertionError:
            results[check.__name__] = False
        else:
            results[check.__name__] = True
    assert DOC.read_text() == sparkplug_matrix.table(results), (
        f"{DOC.name} is old: put the output of sparkplug_matrix.table into it"
    )
