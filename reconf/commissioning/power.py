"""The small set point a converter is tried with, and what its string then says. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.commissioning.outcome import Finding
from reconf.site import Site

TEST_C = 0.05
"""C-rate of the smallest inserted module."""
RATING_FRAC = 0.10
"""Largest share of the converter's power and current rating."""
LIMIT_FACTOR = 1.5
"""STRING_CURRENT_LIMIT over the current the set point needs: the loss comes on top."""
FOLLOW_FRAC = 0.05
FOLLOW_W = 5.0
AGREE_FRAC = 0.10
AGREE_A = 0.35
"""MODULE_CURRENT against STRING_CURRENT: steps of 0.1 A and an offset of 0.2 A."""


@dataclass(frozen=True, slots=True)
class SmallPower:
    """What is asked of one converter."""

    power_w: float
    current_limit_a: float


def small_power(site: Site, string: int, inserted: BoolArray, string_v: float) -> SmallPower:
    """Set point (magnitude) and current limit for one string; (M,) who is inserted."""
    rows = np.zeros(inserted.size, dtype=np.bool_)
    rows[site.topology.slice_of(string)] = True
    capacity = site.topology.rated_capacity_ah[rows & inserted]
    converter = site.strings[string].converter
    current = min(TEST_C * float(capacity.min()), RATING_FRAC * converter.current_rating_a)
    power = min(current * string_v, RATING_FRAC * converter.power_rating_w)
    needed = (power + converter.loss_fixed_w + converter.loss_linear_frac * power) / string_v
    return SmallPower(float(np.trunc(power)), float(np.ceil(10.0 * LIMIT_FACTOR * needed) / 10.0))


def judge_power(
    site: Site,
    string: int,
    asked_w: float,
    power_w: float,
    string_a: float,
    module_a: FloatArray,
    rest_a: FloatArray,
    inserted: BoolArray,
) -> tuple[Finding, ...]:
    """Findings of one direction; `module_a` and `rest_a` (M,) while and before it flows."""
    spec, way = site.strings[string], "discharging" if asked_w > 0.0 else "charging"
    findings: list[Finding] = []
    if not abs(power_w - asked_w) <= FOLLOW_FRAC * abs(asked_w) + FOLLOW_W:
        remedy = "converter does not follow: see its LIMITING bit, its window and who holds the bus"
        findings.append(
            Finding(
                spec.name, f"converter {spec.name}", f"{asked_w:+.0f} W {way}", f"{power_w:+.0f} W", remedy
            )
        )
    for i in range(site.topology.n_modules)[site.topology.slice_of(string)]:
        position, moved = site.positions[i], float(module_a[i] - rest_a[i])
        expected = string_a if inserted[i] else 0.0
        if abs(moved - expected) <= AGREE_FRAC * abs(expected) + AGREE_A:
            continue
        what = "inserted: the string's current" if inserted[i] else "bypassed: no current"
        remedy = "current sensor reversed, dead or of the wrong range: check its direction on the lead"
        findings.append(
            Finding(
                position.module.serial,
                position.label,
                f"{expected:+.1f} A ({what})",
                f"{moved:+.2f} A",
                remedy,
            )
        )
    return tuple(findings)
