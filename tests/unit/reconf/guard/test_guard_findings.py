"""The compiled look at a rule against the steps in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconf.arrays import BoolArray, FloatArray
from reconf.verify import findings
from reconf.verify.findings import Findings

NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-300])
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, st.booleans()), max_size=12)
NEAR = st.lists(
    st.tuples(st.floats(-100.0, 100.0), st.floats(-1e-4, 1e-4)).map(lambda x: (x[0], x[0] + x[1], True)),
    max_size=12,
)


@dataclass(frozen=True, slots=True)
class _Case:
    found: FloatArray
    allowed: FloatArray
    where: BoolArray


def judged(case: _Case, names: list[str]) -> Findings:
    f = Findings()
    with np.errstate(all="ignore"):
        f.at_most("window_max", case.found, case.allowed, case.where, names)
        f.at_least("window_min", case.found, case.allowed, case.where, names)
    return f


@given(ROWS | NEAR)
@settings(deadline=None)  # the first example may compile
def test_both_find_the_same_and_the_same_margin(rows: list[tuple[float, float, bool]]) -> None:
    case = _Case(
        np.array([r[0] for r in rows]),
        np.array([r[1] for r in rows]),
        np.array([r[2] for r in rows], dtype=np.bool_),
    )
    names = [f"s{i}" for i in range(len(rows))]
    ours = judged(case, names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "compiled_held", lambda: None)
        theirs = judged(case, names)
    assert [str(v) for v in ours.violations] == [str(v) for v in theirs.violations]
    assert ours.margin_frac == theirs.margin_frac


def test_there_is_a_compiled_look_and_it_takes_any_layout() -> None:
    assert findings.compiled_held() is not None
    wide = np.arange(12.0).reshape(6, 2)
    wide.setflags(write=False)
    f = Findings()
    f.at_most("window_max", wide[:, 0], wide[:, 1], np.ones(6, dtype=np.bool_), list("abcdef"))
    assert not f.violations
    assert f.margin_frac == pytest.approx(1.0 / 11.0)
    f.at_most("window_max", wide[:, 1], wide[:, 0], np.ones(6, dtype=np.bool_), list("abcdef"))
    assert [v.subject for v in f.violations] == list("abcdef")
