"""Collecting violations: every broken rule by subject, and how near the nearest unbroken one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from reconf.actuation import Violation
from reconf.arrays import BoolArray, FloatArray
from reconf.compiled import engine_for
from reconf.verify.rules import RULES

TOLERANCE_FRAC = 1e-6
"""Slack for rounding in floating point, as a share of the allowed value; far below any register's step."""
_FLOAT = np.dtype(np.float64)


@dataclass(slots=True)
class Findings:
    """What a run of verify has found so far (lives inside one call)."""

    violations: list[Violation] = field(default_factory=list)
    margin_frac: float = 1.0

    def site(self, rule: str, found: float, allowed: float) -> None:
        """The site as a whole breaks `rule`."""
        self._add(rule, "site", found, allowed)

    def flags(self, rule: str, broken: BoolArray, subjects: Sequence[str]) -> None:
        """`rule` is a yes or no: broken where the mask is True."""
        for index in map(int, broken.nonzero()[0]):
            self._add(rule, subjects[index], 1.0, 0.0)

    def at_most(
        self, rule: str, found: FloatArray, allowed: FloatArray, where: BoolArray, subjects: Sequence[str]
    ) -> None:
        """`found` <= `allowed` wherever `where`; a NaN on either side breaks the rule."""
        if _nearest(self, found, allowed, where, 1.0):
            return
        size = np.abs(allowed)
        broken = where & ~(found <= allowed + _slack(size))
        self._compare(rule, found, allowed, broken, subjects)
        self._note(allowed - found, size, where)

    def at_least(
        self, rule: str, found: FloatArray, allowed: FloatArray, where: BoolArray, subjects: Sequence[str]
    ) -> None:
        """`found` >= `allowed` wherever `where`; a NaN on either side breaks the rule."""
        if _nearest(self, found, allowed, where, -1.0):
            return
        size = np.abs(allowed)
        broken = where & ~(found >= allowed - _slack(size))
        self._compare(rule, found, allowed, broken, subjects)
        self._note(found - allowed, size, where)

    def _compare(
        self, rule: str, found: FloatArray, allowed: FloatArray, broken: BoolArray, subjects: Sequence[str]
    ) -> None:
        for index in map(int, broken.nonzero()[0]):
            self._add(rule, subjects[index], float(found[index]), float(allowed[index]))

    def _note(self, distance: FloatArray, size: FloatArray, where: BoolArray) -> None:
        """Keep the smallest distance to a limit that is one, relative to the limit's `size`."""
        real = where & np.isfinite(distance) & (size > 0.0)
        if np.count_nonzero(real):
            nearest = float((distance[real] / size[real]).min())
            self.margin_frac = min(self.margin_frac, max(nearest, 0.0))

    def _add(self, rule: str, subject: str, found: float, allowed: float) -> None:
        row = RULES[rule]
        self.violations.append(Violation(rule, subject, found, allowed, row.unit, row.text))


def _nearest(
    findings: Findings, found: FloatArray, allowed: FloatArray, where: BoolArray, side: float
) -> bool:
    """Whether a compiled loop has seen that nothing is broken; it has then noted the margin.

    Where something is broken, or where there is no such loop, the steps in numpy say what and by how much.
    """
    alike = found.shape == allowed.shape == where.shape and found.dtype == allowed.dtype == _FLOAT
    loop = compiled_held() if alike and found.ndim == 1 else None
    if loop is None:
        return not np.count_nonzero(where)
    held, nearest = loop(found, allowed, where, side, TOLERANCE_FRAC)
    if held:
        findings.margin_frac = min(findings.margin_frac, max(nearest, 0.0))
    return held


@lru_cache(maxsize=1)
def compiled_held() -> Callable[..., tuple[bool, float]] | None:
    """The compiled loop, None without numba; loaded before the first tick."""
    if engine_for("auto") == "numpy":
        return None
    from reconf.verify.kernels_findings import held

    return held


def _slack(size: FloatArray) -> FloatArray:
    """Rounding slack of an allowed value of this size."""
    return TOLERANCE_FRAC * size + 1e-9
