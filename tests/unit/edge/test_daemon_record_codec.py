from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.record_codec import decode, encode
from edge.setpoint import PowerCommand, SetPoint
from optimizer.result import Policy
from reconf.actuation import SlotCommand
from reconf.errors import DataFileError


def test_a_tree_of_own_values_comes_back_to_the_last_bit() -> None:
    value = {
        "command": SlotCommand.safe(3, 2),
        "point": SetPoint(power_w=0.1 + 0.2, command=PowerCommand(float("inf"))),
        "policy": Policy.ZERO,
        "nested": ((1, 2.5, None), [True, "x"], frozenset({"b", "a"})),
        5: np.array([[np.nan, -0.0], [1e-308, np.inf]]),
    }
    back = decode(encode(value))
    assert encode(back) == encode(value)
    assert back["point"] == value["point"]
    assert back["policy"] is Policy.ZERO
    assert back["nested"] == value["nested"]
    assert back[5].tobytes() == value[5].tobytes()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
        max_leaves=20,
    )
)
def test_any_plain_tree_survives(value: object) -> None:
    assert repr(decode(encode(value))) == repr(value)


def test_shared_objects_are_stored_by_name() -> None:
    shared = SlotCommand.safe(2, 1)
    data = encode((shared, 1), {id(shared): "it"})
    assert decode(data, {"it": shared})[0] is shared


@dataclass
class Foreign:
    x: int = 1


def test_foreign_classes_are_refused_both_ways() -> None:
    with pytest.raises(TypeError, match="cannot be recorded"):
        encode(Foreign())
    with pytest.raises(TypeError, match="cannot be recorded"):
        encode(object())
    import json
    import struct
    import zlib

    for name in ("subprocess:Popen", "edge.record_codec:encode", "edge.record_codec:_Decoder"):
        text = json.dumps({"k": "data", "n": name, "v": {}}).encode()
        with pytest.raises(DataFileError):
            decode(zlib.compress(struct.pack(">4sI", b"RCF1", len(text)) + text))


@pytest.mark.parametrize("data", [b"", b"nonsense", encode(1)[:-3]])
def test_half_files_are_refused(data: bytes) -> None:
    with pytest.raises(DataFileError):
        decode(data)
