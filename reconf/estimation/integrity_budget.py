"""How the false alarms that a site may have in a year are shared among the tests of its sensors.

A test with share p of the site's rate, of `scores` one-sided CUSUMs on each of M modules, sees a sample every
block; its threshold is the least at which all of them together alarm p times the site's rate, were every
sample standard normal (`reconf.estimation.cusum`). Residuals of true sensors stay inside their allowances
nearly always, so that the real rate lies far below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.estimation import cusum
from reconf.estimation.integrity_tests import BLOCK_S, DRIFT, TESTS

FALSE_ALARMS_PER_YEAR: Final = 0.1
"""Of all tests of a site together."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one test may spend."""

    test: str
    frac: float
    """Of the site's false alarms."""
    scores: int
    """One-sided CUSUMs of each module."""


SHARES: Final = (
    Share("sensor_pair", 0.1, 2),
    Share("observer", 0.1, 2),
    Share("neighbours", 0.1, 2),
    Share("resistance", 0.1, 2),
    Share("cell_sum", 0.1, 2),
    Share("string_current", 0.1, 2),
    Share("converter_current", 0.1, 2),
    Share("quiet_current", 0.1, 2),
    Share("counter", 0.1, 1),
    Share("frozen", 0.1, 5),
)
"""Alike: a factor of ten in a share moves its threshold by a tenth, and no lie is the likelier one."""


@dataclass(frozen=True, slots=True)
class Spent:
    """One row of the budget of a site."""

    test: str
    per_year: float
    """False alarms of the test at this site."""
    scores: int
    """CUSUMs that share them."""
    threshold: float


def budget(modules: int, per_year: float = FALSE_ALARMS_PER_YEAR) -> tuple[Spent, ...]:
    """What each test of a site of so many modules may spend of `per_year`, and its threshold for that."""
    rows = []
    for share in SHARES:
        rate, scores = per_year * share.frac, share.scores * modules
        runs = cusum.run_length_for(rate, scores, BLOCK_S)
        rows.append(Spent(share.test, rate, scores, cusum.threshold_for(DRIFT, runs)))
    return tuple(rows)


def thresholds_of(modules: int, per_year: float = FALSE_ALARMS_PER_YEAR) -> FloatArray:
    """(tests,) thresholds of a site of so many modules, in the order of `TESTS`."""
    found = {row.test: row.threshold for row in budget(modules, per_year)}
    return np.array([found[test] for test in TESTS])


def table(modules: int) -> str:
    """The budget as a table of Markdown; docs/estimation.md holds it."""
    rows = budget(modules)
    return "\n".join(
        [
            "| test | false alarms a year | CUSUMs | threshold |",
            "|---|---|---|---|",
            *(f"| `{r.test}` | {r.per_year:.3f} | {r.scores} | {r.threshold:.2f} |" for r in rows),
            f"| all | {sum(r.per_year for r in rows):.3f} | {sum(r.scores for r in rows)} | |",
        ]
    )
