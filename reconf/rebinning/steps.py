"""From an arrangement to steps a person does one after the other: swaps, and replacements from the shelf.

After every step each position holds a module, so the work can end after any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from reconf.errors import ParameterError

Place: TypeAlias = str
"""Label of a position."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. A replacement has one position, a swap two."""

    kind: Literal["swap", "replace"]
    places: tuple[Place, ...]
    before: tuple[str, ...]
    """Serials at these places before the step."""
    after: tuple[str, ...]
    """Serials at these places after it."""

    def undone(self) -> Step:
        """The step that takes this one back."""
        return Step(self.kind, self.places, self.after, self.before)


def steps_between(now: Mapping[Place, str], wanted: Mapping[Place, str]) -> tuple[Step, ...]:
    """Steps from `now` to `wanted`, both serials by label, in the order of `now`.

    Modules that are in `wanted` only come from the shelf, those in `now` only go there. Swaps come first, so
    that a module is replaced only where it finally goes out.

    Raises:
        ParameterError: not the same places, or a serial twice.
    """
    if set(now) != set(wanted):
        raise ParameterError("an arrangement must name every place once")
    if len(set(now.values())) != len(now) or len(set(wanted.values())) != len(wanted):
        raise ParameterError("a module cannot be in two places")
    held = dict(now)
    at = {serial: place for place, serial in held.items()}
    steps: list[Step] = []
    for place, serial in wanted.items():
        if held[place] == serial or serial not in at:
            continue
        other, out = at[serial], held[place]
        steps.append(Step("swap", (place, other), (out, serial), (serial, out)))
        held[place], held[other] = serial, out
        at[serial], at[out] = place, other
    for place, serial in wanted.items():
        if held[place] != serial:
            steps.append(Step("replace", (place,), (held[place],), (serial,)))
            held[place] = serial
    return tuple(steps)


def arrangement_after(now: Mapping[Place, str], steps: Sequence[Step]) -> dict[Place, str]:
    """Serials by label once `steps` are done.

    Raises:
        ParameterError: a step does not start from what is there.
    """
    held = dict(now)
    for number, step in enumerate(steps, 1):
        found = tuple(held.get(p, "") for p in step.places)
        if found != step.before:
            raise ParameterError(f"step {number}: expects {', '.join(step.before)} at "
                                 f"{', '.join(step.places)}, there is {', '.join(found)}")  # fmt: skip
        held |= dict(zip(step.places, step.after, strict=True))
    return held
