"""What a step of commissioning found, as values that can be stored, printed and signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """How a step ended."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCOMPLETE = "incomplete"
    """All that was tried is well, but not all could be tried; says why."""
    NOT_TRIED = "not tried"
    """Nothing could be tried; says why."""
    SKIPPED = "skipped"
    """Asked for by the person; the site is then not commissioned."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, where, and what to do."""

    subject: str
    """Serial of the site file, name of a string, or name of a gateway."""
    position: str
    expected: str
    found: str
    remedy: str
    fault: bool = True
    """False: a remark that fails nothing."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """A whole step."""

    step: str
    verdict: Verdict
    checked: int = 0
    """Nodes (or lines) that were looked at."""
    findings: tuple[Finding, ...] = ()
    untried: Mapping[str, str] = field(default_factory=dict)
    """Why, by serial or string, for those that could not be tried."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Measured values worth keeping, unit in the name."""
    seconds: float = 0.0
    text: str = ""

    @property
    def faulty(self) -> frozenset[str]:
        """Subjects with a fault."""
        return frozenset(f.subject for f in self.findings if f.fault)


def concluded(
    step: str,
    checked: int,
    findings: tuple[Finding, ...],
    untried: Mapping[str, str] | None = None,
    figures: Mapping[str, float] | None = None,
    text: str = "",
) -> StepOutcome:
    """An outcome whose verdict follows from what was found: untried subjects keep a step from passing."""
    verdict = Verdict.PASS
    if untried or not checked:
        verdict = Verdict.INCOMPLETE if checked else Verdict.NOT_TRIED
    if any(f.fault for f in findings):
        verdict = Verdict.FAIL
    return StepOutcome(step, verdict, checked, findings, dict(untried or {}), dict(figures or {}), 0.0, text)


def by_reason(untried: Mapping[str, str], most: int = 6) -> list[tuple[str, str]]:
    """(reason, those it holds for) of what was not tried; of many only the first `most` are named."""
    groups: dict[str, list[str]] = {}
    for subject, why in untried.items():
        groups.setdefault(why, []).append(subject)
    return [
        (why, ", ".join(who[:most]) + (f" and {len(who) - most} more" if len(who) > most else ""))
        for why, who in groups.items()
    ]
