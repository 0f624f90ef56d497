"""A recorded interval, given to a core again."""

from __future__ import annotations

from edge.core import ControlCore
from edge.core_values import CoreState, RecordedClears, RecordedOrder, TickInput
from reconf.actuation import Receipt, VerifiedCommand
from reconf.site import Site


def replayed_steps(site: Site, state: CoreState, inputs: tuple[object, ...]) -> tuple[VerifiedCommand, ...]:
    """Steps that a core resumed at `state` gives for recorded `inputs`: the proof that a record is whole."""
    core = ControlCore.resumed(site, state)
    steps: list[VerifiedCommand] = []
    for value in inputs:
        match value:
            case TickInput():
                step = core.tick(value).step
            case Receipt():
                step = core.confirm(value)
            case RecordedOrder():
                core.order(value.order, value.now_s, value.wall_s)
                continue
            case RecordedClears():
                core.cleared(value.modules, value.strings)
                continue
            case _:
                raise TypeError(f"{type(value).__name__} is no input of the core")
        if step is not None:
            steps.append(step)
    return tuple(steps)
