"""Trim set points that balance on the trim bus, and what the currents then say. Pure."""

from __future__ import annotations

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.commissioning.outcome import Finding
from reconf.site import Site

TEST_A = 2.0
"""Large against a current sensor's offset, small against any rating."""
TEST_FRAC = 0.8
"""Of the rating, where that is smaller."""
FLOWS_FRAC = 0.35
"""Of the set point: below this a trim converter counts as dead, whatever balance its neighbours found."""
AGREE_FRAC = 0.25
AGREE_A = 0.25
"""MODULE_CURRENT against TRIM_CURRENT while nothing else flows."""
STEP_A = 0.01


def trim_pattern(site: Site, volts: FloatArray, able: BoolArray, *, evens_give: bool) -> FloatArray:
    """(M,) set points [A], out of the module positive: every second able module of a string gives.

    Sum over givers of v t eta = sum over takers of v |t|, each within its rating; 0 where a string has no
    pair.
    """
    setpoint = np.zeros(site.topology.n_modules)
    rating = np.array([m.trim_rating_a for m in site.modules])
    efficiency = np.array([m.trim_efficiency_frac for m in site.modules])
    for s in range(site.topology.n_strings):
        rows = np.arange(site.topology.n_modules)[site.topology.slice_of(s)]
        rows = rows[able[rows] & (rating[rows] > 0.0)]
        givers, takers = (rows[::2], rows[1::2]) if evens_give else (rows[1::2], rows[::2])
        if not givers.size or not takers.size:
            continue
        most = np.minimum(TEST_A, TEST_FRAC * rating)
        give = most[givers]
        given_w = float((volts[givers] * give * efficiency[givers]).sum())
        take = given_w / float(volts[takers].sum())
        scale = min(1.0, float(most[takers].min()) / take)
        setpoint[givers], setpoint[takers] = scale * give, -scale * take
    quantised: FloatArray = np.trunc(setpoint / STEP_A) * STEP_A
    return quantised


def judge_trim(
    site: Site, setpoint_a: FloatArray, trim_a: FloatArray, current_a: FloatArray, rest_a: FloatArray
) -> tuple[Finding, ...]:
    """Findings of one round.

    Args:
        site: the site.
        setpoint_a: (M,) asked of each module; 0: not tried.
        trim_a: (M,) TRIM_CURRENT.
        current_a: (M,) MODULE_CURRENT while trimming.
        rest_a: (M,) MODULE_CURRENT before.
    """
    findings: list[Finding] = []
    for i in np.flatnonzero(setpoint_a):
        position = site.positions[int(i)]
        asked, flows, moved = float(setpoint_a[i]), float(trim_a[i]), float(current_a[i] - rest_a[i])
        way = "giving" if asked > 0.0 else "taking"
        expected = f"about {asked:+.2f} A {way}"
        if not flows * asked > 0.0 or abs(flows) < FLOWS_FRAC * abs(asked):
            remedy = "trim converter dead or not on the trim bus: check its fuse and plug, else replace it"
            found = f"TRIM_CURRENT {flows:+.2f} A"
        elif abs(moved - flows) > AGREE_FRAC * abs(flows) + AGREE_A:
            found = f"TRIM_CURRENT {flows:+.2f} A, MODULE_CURRENT moves by {moved:+.2f} A"
            remedy = "current sensor reversed or dead, or the trim converter sits on another module"
        else:
            continue
        findings.append(Finding(position.module.serial, position.label, expected, found, remedy))
    return tuple(findings)
