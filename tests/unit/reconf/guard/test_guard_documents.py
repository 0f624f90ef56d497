"""The pages are those of the tables that run, and everything they name exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from reconf.protection.faults import SCOPES, fault_rows
from reconf.sequences import OUTPUTS, PHASE_TABLE, Phase, SiteMode
from reconf.sequences.diagrams import markdown as sequences
from reconf.sequences.modes import MODE_TABLE
from reconf.verify import RULES
from reconf.verify.document import markdown as concept
from reconf.verify.hazards import HAZARDS

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("page", "made", "maker"),
    [
        ("sequences.md", sequences, "reconf.sequences.diagrams"),
        ("safety-concept.md", concept, "reconf.verify.document"),
    ],
)
def test_pages_are_current(page, made, maker):
    text = (ROOT / "docs" / page).read_text()
    assert text == made(), f"docs/{page} is old: put the output of {maker}.markdown into it"


def test_every_hazard_names_rules_faults_and_tests_that_exist():
    faults = {row.fault for scope in SCOPES for row in fault_rows(scope)}
    tests = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    for hazard in HAZARDS:
        assert set(hazard.rules) <= set(RULES), hazard.hazard
        assert set(hazard.faults) <= faults, hazard.hazard
        named = {name for name in hazard.tests if not name.startswith("bench ")}
        assert named <= tests, hazard.hazard


def test_every_fault_is_there_for_a_hazard_and_every_hazard_has_a_number_of_its_own():
    faults = {row.fault for scope in SCOPES for row in fault_rows(scope)}
    assert {fault for hazard in HAZARDS for fault in hazard.faults} == faults
    numbers = [hazard.hazard.split()[0] for hazard in HAZARDS]
    assert len(numbers) == len(set(numbers))


def test_every_bench_that_shows_a_hazard_exists():
    benches = {file.stem for file in (ROOT / "edge" / "cli" / "bench").glob("*.py")}
    named = {name.removeprefix("bench ") for h in HAZARDS for name in h.tests if name.startswith("bench ")}
    assert named <= benches


def test_every_rule_of_verify_is_there_for_a_hazard():
    assert {rule for hazard in HAZARDS for rule in hazard.rules} == set(RULES)


def test_every_phase_and_mode_is_drawn():
    page = sequences()
    for name in [*(p.name.lower() for p in Phase), *(m.value for m in SiteMode)]:
        assert name in page
    assert set(OUTPUTS) == set(Phase)
    assert {row.source for row in PHASE_TABLE} == set(Phase)
    assert {mode for row in MODE_TABLE for mode in row.sources} == set(SiteMode)


def test_only_verify_makes_verified_commands():
    makers = set()
    for package in ("reconf", "optimizer", "edge"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and getattr(
                    node.func, "id", getattr(node.func, "attr", "")
                ) == ("VerifiedCommand"):
                    makers.add(str(file.relative_to(ROOT)))
    # `permit` judges switches behind open contactors, and hands everything else to verify
    assert makers == {"reconf/verify/verify.py", "reconf/commissioning/permit.py"}
