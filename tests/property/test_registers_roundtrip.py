"""Coding a value and reading it back gives it again, to the register's resolution."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.modbus.shadow import filled_runs
from reconf.devices.profile import RegisterDef, RegisterType
from reconf.errors import RegisterError
from reconf.registers import BlockDecoder, ReadBlock, encode_value, plan_reads

NUMBERS = [RegisterType.UINT16, RegisterType.INT16, RegisterType.UINT32, RegisterType.INT32]


@given(
    kind=st.sampled_from(NUMBERS),
    scale=st.sampled_from([1.0, 0.1, 0.01, 0.001, 0.0001]),
    value=st.floats(-1e7, 1e7),
)
def test_encode_then_decode(kind: RegisterType, scale: float, value: float) -> None:
    register = RegisterDef("holding", 3, "X", kind, scale, "", "rw")
    try:
        words = encode_value(register, value)
    except RegisterError:
        raw, bits = round(value / scale), 16 * kind.words
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if "u" not in kind.value else (0, (1 << bits) - 1)
        assert not low <= raw <= high or raw == (low or high)
        return
    assert all(0 <= w <= 0xFFFF for w in words)
    decoder = BlockDecoder([register], ReadBlock("holding", 3, len(words)))
    back = decoder.values(np.array([words], dtype=np.uint16))[0, 0]
    assert abs(back - value) <= 0.5 * scale * (1 + 1e-9) + 1e-9 * abs(value)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), min_size=1, max_size=30), st.integers(6, 60)
)
def test_plan_covers_every_register_and_never_exceeds_the_limit(
    gaps: list[tuple[int, int]], limit: int
) -> None:
    registers, address = [], 0
    for gap, count in gaps:
        address += gap
        registers.append(RegisterDef("input", address, "X", RegisterType.UINT16, 1.0, "", "r", count=count))
        address += count
    blocks = plan_reads(registers, limit)
    assert all(b.count <= limit for b in blocks)
    for r in registers:
        assert any(b.address <= r.address and r.end <= b.end for b in blocks)
    # no two neighbouring blocks could have been one
    for a, b in itertools.pairwise(blocks):
        first_of_b = next(r for r in registers if r.address == b.address)
        assert first_of_b.end - a.address > limit


@given(st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)))
def test_write_runs_cover_what_changed_and_touch_nothing_forbidden(
    changed: set[int], fillable: set[int]
) -> None:
    runs = filled_runs(sorted(changed), frozenset(fillable))
    touched = {a for first, count in runs for a in range(first, first + count)}
    assert changed <= touched
    assert touched - changed <= fillable
