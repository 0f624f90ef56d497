"""`reconf.replacing` against the standard library's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconf.replacing import replace


@dataclass(frozen=True, slots=True)
class _Value:
    first: int
    second: str = "b"
    third: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Derived(_Value):
    fourth: float = 0.5


@dataclass(frozen=True, slots=True)
class _Checked:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("upside down")


@dataclass(frozen=True, slots=True)
class _Counted:
    value: int
    other: int = 0
    twice: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", 2 * self.value)


@dataclass
class _Open:
    first: int = 1
    second: int = 2


CHANGES = st.fixed_dictionaries(
    {}, optional={"first": st.integers(), "second": st.text(), "third": st.just((1, 2))}
)


@given(first=st.integers(), second=st.text(), changes=CHANGES)
def test_gives_what_the_standard_library_gives(first: int, second: str, changes: dict[str, object]) -> None:
    for value in (_Value(first, second), _Derived(first, second, fourth=2.0)):
        before = dataclasses.astuple(value)
        ours, theirs = replace(value, **changes), dataclasses.replace(value, **changes)  # type: ignore[arg-type]  # drawn by name
        assert ours == theirs
        assert type(ours) is type(value)
        assert hash(ours) == hash(theirs)
        assert dataclasses.astuple(value) == before


def test_values_that_check_themselves_are_checked() -> None:
    assert replace(_Checked(1, 2), high=5) == _Checked(1, 5)
    with pytest.raises(ValueError, match="upside down"):
        replace(_Checked(1, 2), high=0)
    assert replace(_Counted(1), value=4).twice == 8
    assert replace(_Open(), second=3) == _Open(1, 3)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(TypeError, match="fifth"):
        replace(_Value(1), fifth=5)  # type: ignore[call-arg]  # that is the point
