"""Codec and read planner."""

from __future__ import annotations

import numpy as np
import pytest
from counting import calls_of

from reconf.actuation import SlotCommand
from reconf.devices.marks import NodeMarks
from reconf.devices.profile import RegisterDef, RegisterType, load_profile
from reconf.devices.rc1 import Rc1Codec
from reconf.devices.rm1 import Rm1Codec
from reconf.errors import RegisterError
from reconf.readings import Quality
from reconf.registers import (
    BlockDecoder,
    ReadBlock,
    contiguous_runs,
    decode_text,
    encode_text,
    encode_value,
    plan_reads,
)

RM1, RC1 = load_profile("rm1"), load_profile("rc1")


def register(
    kind: str, *, address: int = 0, scale: float = 1.0, na: bool = True, count: int = 1
) -> RegisterDef:
    return RegisterDef(
        "holding", address, "X", RegisterType(kind), scale, "", "rw", na_applies=na, count=count
    )


def decode(reg: RegisterDef, words: list[int]) -> float:
    decoder = BlockDecoder([reg], ReadBlock("holding", reg.address, len(words)))
    return float(decoder.values(np.array([words], dtype=np.uint16))[0, 0])


class TestPlan:
    def test_all_inputs_of_a_node_are_one_request(self) -> None:
        assert plan_reads(RM1.of_table("input"), 60) == (ReadBlock("input", 0, 35),)
        assert plan_reads(RC1.of_table("input"), 60) == (ReadBlock("input", 0, 17),)

    def test_holding_registers_are_two(self) -> None:
        assert plan_reads(RM1.of_table("holding"), 60) == (
            ReadBlock("holding", 0, 8),
            ReadBlock("holding", 100, 17),
        )

    def test_a_request_is_never_longer_than_allowed_and_no_value_is_cut(self) -> None:
        registers = [register("uint32", address=2 * k) for k in range(40)]
        blocks = plan_reads(registers, 61)
        assert [b.count for b in blocks] == [60, 20]
        assert all(b.address % 2 == 0 for b in blocks)

    def test_a_value_longer_than_a_request_is_a_fault(self) -> None:
        with pytest.raises(RegisterError, match="takes 8 registers"):
            plan_reads([register("string16", count=8)], 4)


@pytest.mark.parametrize(
    ("kind", "words", "value"),
    [
        ("uint16", [0xFFFE], 65534.0), ("uint16", [0xFFFF], np.nan), ("uint16", [0x8000], 32768.0),
        ("int16", [0xFFFF], -1.0), ("int16", [0x8000], np.nan), ("int16", [0x8001], -32767.0),
        ("uint32", [0xFFFF, 0xFFFF], np.nan), ("uint32", [1, 2], 65538.0),
        ("uint32", [0xFFFF, 0xFFFE], 4294967294.0),
        ("int32", [0xFFFF, 0xFFFE], -2.0), ("int32", [0x8000, 0], np.nan),
        ("int32", [0x8000, 1], -2147483647.0),
    ],
)  # fmt: skip
def test_decoding_with_not_available_patterns(kind: str, words: list[int], value: float) -> None:
    np.testing.assert_equal(decode(register(kind), words), value)


@pytest.mark.parametrize(
    ("kind", "words", "value"), [("uint16", [0xFFFF], 65535.0), ("uint32", [0xFFFF] * 2, 4294967295.0)]
)
def test_counters_use_their_whole_range(kind: str, words: list[int], value: float) -> None:
    assert decode(register(kind, na=False), words) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("uint16", -1), ("uint16", 65535), ("uint16", 65536), ("int16", -32768), ("int16", 32768),
        ("uint32", -1), ("uint32", 2**32 - 1), ("int32", -(2**31)), ("int32", 2**31),
        ("uint16", float("nan")), ("int32", float("inf")),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_never_truncated(kind: str, value: float) -> None:
    with pytest.raises(RegisterError):
        encode_value(register(kind), value)


def test_stated_range_is_kept() -> None:
    watchdog = RM1.register("holding", "WATCHDOG")
    assert encode_value(watchdog, 6.0) == (60,)
    for wrong in (0.9, 60.1):
        with pytest.raises(RegisterError, match="WATCHDOG"):
            encode_value(watchdog, wrong)


def test_text() -> None:
    assert decode_text(encode_text("LEAF-0042", 8)) == "LEAF-0042"
    with pytest.raises(RegisterError, match="longer"):
        encode_text("x" * 17, 8)
    with pytest.raises(RegisterError, match="ASCII"):
        encode_text("Übung", 8)
    with pytest.raises(RegisterError, match="ASCII"):
        decode_text([0xFFFF] * 8)


def test_runs() -> None:
    assert contiguous_runs([2, 3, 5, 6, 9]) == ((2, 2), (5, 2), (9, 1))
    assert contiguous_runs([]) == ()


def marks(n: int) -> NodeMarks:
    return NodeMarks(np.ones(n, dtype=np.bool_), np.zeros(n), np.zeros(n, dtype=np.uint8))


def test_modules_of_different_size_share_one_table() -> None:
    codec = Rm1Codec(RM1, np.array([2, 4]))
    words = np.zeros((2, 35), dtype=np.uint16)
    words[:, :3] = [[0x524D, 1, 2], [0x524D, 1, 4]]
    words[:, 20:24] = 3700
    readings = codec.readings(words, marks(2))
    assert readings.cell_voltage_v.value.shape == (2, 4)
    assert np.isnan(readings.cell_voltage_v.value[0, 2:]).all()
    assert (readings.cell_voltage_v.quality[0, 2:] == Quality.UNAVAILABLE).all()
    assert codec.read_counts.tolist() == [22, 24]
    assert codec.genuine(words).all()
    words[1, 2] = 5
    assert codec.genuine(words).tolist() == [True, False]


def test_command_words_hold_the_unused_register_at_zero() -> None:
    codec = Rm1Codec(RM1, np.array([4, 4]))
    command = SlotCommand.safe(2, 1)
    command.inserted[:] = True
    command.duty_mode[1] = True
    command.duty_frac[:] = 0.25
    command.trim_current_a[:] = [-1.5, 0.0]
    assert codec.command_words(command).tolist() == [[0, 1, 0, 65386], [1, 0, 2500, 0]]
    strings = Rc1Codec(RC1)
    command.power_w[0] = -20000.0
    command.current_limit_a[0] = 55.5
    assert strings.command_words(command).tolist() == [[0, 0xFFFF, 0xB1E0, 0, 555, 0]]


def test_decoding_a_site_takes_as_many_calls_whatever_its_size() -> None:
    """All nodes at once: how many milliseconds that is, the machine decides and the benchmarks tell."""

    def calls(n: int) -> int:
        codec = Rm1Codec(RM1, np.full(n, 12))
        words = np.random.default_rng(1).integers(0, 5000, (n, 35)).astype(np.uint16)
        return calls_of(lambda: codec.readings(words, marks(n)))

    calls(2)  # what is imported and looked up once
    assert calls(1000) <= calls(48) < 1000
