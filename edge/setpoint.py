"""The power the site is asked for now: the last command, its ramp, its expiry, and what follows it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reconf.replacing import replace
from reconf.site import FallbackSpec

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class PowerCommand:
    """One accepted set point."""

    power_w: float
    """At the site bus, discharge positive."""
    ramp_w_per_s: float = math.inf
    """Largest change of the set point, control time."""
    deadline_wall_s: float = math.inf
    """Monotonic wall time at which the command expires."""
    revert_at_s: float = math.inf
    """Control time after which the fallback holds although the command has not expired."""
    command_id: str = ""
    schedule: tuple[tuple[float, float], ...] = ()
    """(monotonic wall second, power) steps in order, each holding until the next; empty: `power_w` holds."""

    def power_at(self, wall_s: float) -> float:
        """Power asked at a moment; before a schedule begins nothing is asked."""
        if not self.schedule:
            return self.power_w
        begun = [power_w for start_s, power_w in self.schedule if start_s <= wall_s]
        return begun[-1] if begun else 0.0


@dataclass(frozen=True, slots=True)
class SetPoint:
    """What is asked now."""

    asked_w: float = 0.0
    """Target of whoever is in charge."""
    power_w: float = 0.0
    """The same behind its ramp: this is what the allocator is asked for."""
    source: str = "none"
    """`command`, `fallback_zero`, `fallback_hold`, `fallback_schedule` or `none` (nothing came yet)."""
    command: PowerCommand | None = None


def command_power(state: SetPoint, command: PowerCommand) -> SetPoint:
    """Put `command` in charge."""
    return replace(state, command=command, asked_w=command.power_w, source="command")


def ramp_w_per_s(state: SetPoint) -> float:
    """Largest change of the site's power in force; infinite where the command names none."""
    return math.inf if state.command is None else state.command.ramp_w_per_s


def withdraw(state: SetPoint) -> SetPoint:
    """Nobody is in charge any more: ask for nothing, at once."""
    return replace(state, command=None, asked_w=0.0, power_w=0.0, source="none")


def advance(
    state: SetPoint,
    fallback: FallbackSpec,
    *,
    now_s: float,
    wall_s: float,
    dt_s: float,
    second_of_day: float,
    scada_lost: bool = False,
) -> SetPoint:
    """The set point one tick later: expiry first, then the ramp."""
    command = state.command
    if command is None and state.source == "none":
        return replace(state, asked_w=0.0, power_w=0.0)
    holds = command is not None and wall_s < command.deadline_wall_s and now_s < command.revert_at_s
    if command is not None and holds and not scada_lost:
        asked_w, source = command.power_at(wall_s), "command"
    else:
        asked_w, source = _fallback(state, fallback, second_of_day)
    ramp = math.inf if command is None else command.ramp_w_per_s
    if source != "command" and fallback.ramp_w_per_s > 0.0:
        ramp = fallback.ramp_w_per_s
    step_w = ramp * dt_s if dt_s > 0.0 else 0.0
    difference_w = asked_w - state.power_w
    power_w = asked_w if abs(difference_w) <= step_w else state.power_w + math.copysign(step_w, difference_w)
    return replace(state, asked_w=asked_w, power_w=power_w, source=source)


def _fallback(state: SetPoint, fallback: FallbackSpec, second_of_day: float) -> tuple[float, str]:
    match fallback.action:
        case "zero":
            return 0.0, "fallback_zero"
        case "hold":
            return state.asked_w, "fallback_hold"
        case "schedule":
            return scheduled_w(fallback, second_of_day), "fallback_schedule"


def scheduled_w(fallback: FallbackSpec, second_of_day: float) -> float:
    """Power of the local schedule at a second of the day (UTC); the last step holds over midnight."""
    if not fallback.schedule:
        return 0.0
    steps = sorted(fallback.schedule)
    passed = [power_w for start_s, power_w in steps if start_s <= second_of_day % DAY_S]
    return passed[-1] if passed else steps[-1][1]
