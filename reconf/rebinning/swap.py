"""What is to be done next when modules change places: a pure function of what is seen.

Nothing is needed but the plan, the direction and the serials read on the wire. After every interruption
they say how far the work is: the arrangement after k steps is there, or somebody is in the middle of step
k + 1, or it is none of these, and then nothing goes on until a person has put it right. How many steps were
verified before only decides between two steps that the same readings could be the middle of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from reconf.devices.rm1 import Rm1Status
from reconf.rebinning.steps import Place, Step, arrangement_after
from reconf.site import ModuleSpec

CELL_PLAUSIBLE_V = (1.5, 4.5)
"""A cell outside is reversed, dead or not connected: no module with such a cell is taken in."""


class Direction(StrEnum):
    """Which way the steps are done."""

    FORWARD = "forward"
    BACK = "back"
    """Roll back to where it began."""


@dataclass(frozen=True, slots=True)
class Work:
    """The whole job."""

    start: Mapping[Place, str]
    """Serials by label before the first step."""
    steps: tuple[Step, ...]
    direction: Direction

    @property
    def goal(self) -> int:
        """Number of steps that are done at the end."""
        return len(self.steps) if self.direction is Direction.FORWARD else 0

    def arrangement(self, done: int) -> dict[Place, str]:
        """Serials by label after `done` steps."""
        return arrangement_after(self.start, self.steps[:done])


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there now."""

    read: Mapping[Place, str | None]
    """Serial read at each position's unit id; None where nobody answers."""
    in_file: Mapping[Place, str]
    """Serials by the site file on disk."""
    in_daemon: Mapping[Place, str]
    """Serials by the site file the running daemon has loaded."""
    maintenance: bool
    """The lock is held on site."""
    hands_inside: bool
    """Somebody has a permit."""
    unfit: tuple[str, ...] = ()
    """Why modules that were put in may not stay."""
    verified: int = 0
    """Steps whose result has been read before, as noted on disk."""


@dataclass(frozen=True, slots=True)
class TakeMaintenance:
    """Leave the strings and lock commands from afar out."""


@dataclass(frozen=True, slots=True)
class DoStep:
    """Get a permit, then let a person do this step."""

    number: int
    """From 1, in the order of the plan."""
    step: Step


@dataclass(frozen=True, slots=True)
class FinishStep:
    """A step is begun and not what it is to be: say what is missing (with a permit, as for any step)."""

    number: int
    step: Step
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HandsOut:
    """Everything reads right: give the permit back."""


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Every module is where it is to be: write the site file."""

    arrangement: Mapping[Place, str]


@dataclass(frozen=True, slots=True)
class Restart:
    """The daemon still runs with the old site file."""


@dataclass(frozen=True, slots=True)
class Release:
    """All is done: release the maintenance lock."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What is read is no state of this plan."""

    findings: tuple[str, ...]


Act: TypeAlias = (
    TakeMaintenance | DoStep | FinishStep | HandsOut | WriteFile | Restart | Release | Finished | Lost
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the work is."""

    done: int
    """Steps whose result is read on the wire."""
    middle: bool = False
    """The next step has begun: its places do not read as before it, nor as after it."""
    findings: tuple[str, ...] = ()
    """Of the step in the middle, or why it is no state of the plan."""
    lost: bool = False


def standing(work: Work, read: Mapping[Place, str | None], verified: int = 0) -> Standing:
    """How far the work is, from the serials read; `verified` steps were seen done before."""
    best: tuple[int, int, tuple[str, ...]] | None = None
    for done in range(len(work.steps) + 1):
        wrong = differences(work.arrangement(done), read)
        if not wrong:
            return Standing(done)
        if best is None or len(wrong) < best[1]:
            best = (done, len(wrong), wrong)
    begun = [k for k, step in enumerate(work.steps) if not _elsewhere(work.arrangement(k), step, read)]
    if begun:
        expected = verified if work.direction is Direction.FORWARD else verified - 1
        done = min(begun, key=lambda k: abs(k - expected))
        step = work.steps[done]
        wanted = step.after if work.direction is Direction.FORWARD else step.before
        goal = dict(zip(step.places, wanted, strict=True))
        return Standing(done, middle=True, findings=differences(goal, read))
    return Standing(best[0] if best else 0, lost=True, findings=best[2] if best else ())


def _elsewhere(before: Mapping[Place, str], step: Step, read: Mapping[Place, str | None]) -> list[Place]:
    """Places the step does not touch that do not read as before it."""
    return [p for p, serial in before.items() if p not in step.places and read.get(p) != serial]


def differences(wanted: Mapping[Place, str], read: Mapping[Place, str | None]) -> tuple[str, ...]:
    """One sentence for each place that does not read as wanted."""
    found = []
    for place, serial in wanted.items():
        there = read.get(place)
        if there is None:
            found.append(f"{place}: nobody answers, {serial} is expected (plugged in? unit id set?)")
        elif there != serial:
            found.append(f"{place}: reads {there}, {serial} is expected")
    return tuple(found)


def next_act(work: Work, seen: Seen) -> Act:  # noqa: PLR0911 - one return for each act
    """What is to be done now."""
    at = standing(work, seen.read, seen.verified)
    if at.lost:
        return Lost(at.findings)
    if at.middle:
        step = work.steps[at.done]
        shown = step if work.direction is Direction.FORWARD else step.undone()
        return FinishStep(at.done + 1, shown, at.findings) if seen.maintenance else TakeMaintenance()
    if seen.unfit and at.done:
        last = work.steps[at.done - 1]
        return FinishStep(at.done, last, seen.unfit) if seen.maintenance else TakeMaintenance()
    if seen.hands_inside:
        return HandsOut()
    if at.done != work.goal:
        if not seen.maintenance:
            return TakeMaintenance()
        if work.direction is Direction.FORWARD:
            return DoStep(at.done + 1, work.steps[at.done])
        return DoStep(at.done, work.steps[at.done - 1].undone())
    goal = work.arrangement(work.goal)
    if dict(seen.in_file) != goal:
        return WriteFile(goal)
    if dict(seen.in_daemon) != goal:
        return Restart()
    return Release() if seen.maintenance else Finished()


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """What a module node says after the swap."""

    serial: str
    n_cells: int
    chemistry_code: int
    rated_capacity_ah: float
    cell_voltage_v: tuple[float, ...]
    status: int


BAD_STATUS = (
    (Rm1Status.SWITCH_FAULT, "its switch does not follow"),
    (Rm1Status.CELL_SENSING_FAULT, "a cell's sense wire is open"),
    (Rm1Status.TEMPERATURE_SENSOR_FAULT, "a temperature sensor is missing"),
    (Rm1Status.OVER_VOLTAGE_TRIP, "it has tripped on over-voltage"),
    (Rm1Status.UNDER_VOLTAGE_TRIP, "it has tripped on under-voltage"),
    (Rm1Status.OVER_TEMPERATURE_TRIP, "it has tripped on temperature"),
)


def misfits(spec: ModuleSpec, node: NodeSeen) -> tuple[str, ...]:
    """Why the module that was put in may not stay, one sentence each; empty where it may."""
    found = []
    if node.n_cells != spec.n_cells:
        found.append(f"has {node.n_cells} cells in series, {spec.n_cells} are expected")
    if node.chemistry_code not in (0, spec.chemistry.code):
        found.append(f"says chemistry {node.chemistry_code}, {spec.chemistry.code} is expected")
    if abs(node.rated_capacity_ah - spec.rated_capacity_ah) > 0.06:
        found.append(f"says {node.rated_capacity_ah:g} Ah rated, {spec.rated_capacity_ah:g} are expected")
    low, high = CELL_PLAUSIBLE_V
    for k, volts in enumerate(node.cell_voltage_v[: node.n_cells], 1):
        if not low <= volts <= high:
            found.append(f"cell {k} reads {volts:.3f} V: reversed, dead or not connected")
    found += [text for bit, text in BAD_STATUS if node.status & int(bit)]
    return tuple(f"{spec.serial}: {text}" for text in found)


def guide(step: Step, where: Mapping[Place, str], unit: Mapping[Place, int]) -> Sequence[str]:
    """What the person does, line by line.

    Args:
        step: the step.
        where: string, by label.
        unit: Modbus unit id, by label: it belongs to the position and is set on the node that comes in.
    """
    cover = "cover the terminals at once, modules keep their own voltage."
    if step.kind == "swap":
        (a, b), (x, y) = step.places, step.before
        return (
            f"1. Take {x} out of {a} (string {where[a]}) and {y} out of {b} (string {where[b]}): {cover}",
            f"2. Set the unit id of {y} to {unit[a]}, that of {x} to {unit[b]}.",
            f"3. Put {y} into {a} and {x} into {b}, polarity as marked; bolts to the torque of the label.",
            "4. Plug the bus and the sense wires of both.",
        )
    (a,), (x,), (y,) = step.places, step.before, step.after
    return (
        f"1. Take {x} out of {a} (string {where[a]}): {cover}",
        f"2. Set the unit id of {y}, from the shelf, to {unit[a]}.",
        f"3. Put {y} into {a}, polarity as marked; bolts to the torque of the label.",
        f"4. Plug the bus and the sense wires. Lay {x} on the shelf, unit id labelled as free.",
    )
