"""Orders that exist on site only: the maintenance lock and the permits for hands inside."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

import numpy as np

from edge.core_values import Answer, CoreState, HandsInside, HandsOut, HoldMaintenance, TickView
from edge.setpoint import withdraw
from reconf.devices.rc1 import Rc1Status
from reconf.isolation import (
    RELEASED,
    StringIsolation,
    grant,
    hand_back,
    hands_inside_refusals,
    release_refusal,
    take,
)
from reconf.readings import SiteImage
from reconf.site import Site

FRESH_TICKS = 2.0
FRESH_MARGIN_S = 1.0
"""Readings older than so many ticks and this wall time do not speak for what is there now."""


def string_isolation(site: Site, image: SiteImage) -> tuple[StringIsolation, ...]:
    """What an image says of every string's contactor and voltage."""
    strings = image.strings
    # a precharge relay, or a contactor that does not follow, is no open contactor
    doubtful = Rc1Status.CONTACTOR_CLOSED | Rc1Status.PRECHARGING | Rc1Status.CONTACTOR_MISMATCH
    closed = (strings.status & int(doubtful)) != 0
    voltage_v = np.where(strings.voltage_v.good, strings.voltage_v.value, np.nan)
    link_v = np.where(strings.link_voltage_v.good, strings.link_voltage_v.value, np.nan)
    return tuple(
        StringIsolation(
            name=spec.name,
            read=bool(strings.answered[s]),
            contactor_open=not bool(closed[s]),
            voltage_v=float(voltage_v[s]),
            link_v=float(link_v[s]),
        )
        for s, spec in enumerate(site.strings)
    )


def on_site_only(
    site: Site,
    state: CoreState,
    view: TickView | None,
    order: HoldMaintenance | HandsInside | HandsOut,
    wall_s: float,
) -> tuple[CoreState, Answer]:
    """The state after `order`, and the answer to it."""
    match order:
        case HoldMaintenance():
            return hold(state, order)
        case HandsInside():
            return hands_inside(site, state, view, order, wall_s)
        case HandsOut():
            return give_back(state, order)
        case _:
            assert_never(order)


def hold(state: CoreState, order: HoldMaintenance) -> tuple[CoreState, Answer]:
    """Take the lock, or release it."""
    lock = state.maintenance
    if order.held:
        if lock.held:
            return state, Answer(accepted=True, reason="held", text=f"maintenance is held by {lock.by}")
        after = replace(
            state,
            maintenance=take(lock, order.by, order.utc),
            pending=replace(state.pending, mode=None),
            setpoint=withdraw(state.setpoint),
        )
        text = "maintenance is taken: every string is being left, commands from afar are refused"
        return after, Answer(accepted=True, reason="accepted", text=text)
    refusal = release_refusal(lock)
    if refusal:
        return state, Answer(accepted=False, reason="not_released", text=refusal)
    text = "maintenance is released: the site stays off until it is started by command"
    after = replace(state, maintenance=RELEASED)
    return after, Answer(accepted=True, reason="accepted", text=text)


def hands_inside(
    site: Site, state: CoreState, view: TickView | None, order: HandsInside, wall_s: float
) -> tuple[CoreState, Answer]:
    """Give a permit where readings and statement allow it."""
    lock = state.maintenance
    limit_s = FRESH_TICKS * site.timing.tick_s + FRESH_MARGIN_S
    fresh = view is not None and wall_s - view.input.wall_s <= limit_s
    seen = () if view is None else string_isolation(site, view.input.image)
    refusals = hands_inside_refusals(lock, seen, order.statement, fresh=fresh)
    if refusals:
        return state, Answer(accepted=False, reason="not_isolated", text="; ".join(refusals))
    where = ", ".join(order.statement.strings) or "every string"
    text = f"{order.statement.by} may put hands inside ({where}); modules keep their own voltage"
    after = replace(state, maintenance=grant(lock, order.statement, order.utc))
    return after, Answer(accepted=True, reason="accepted", text=text)


def give_back(state: CoreState, order: HandsOut) -> tuple[CoreState, Answer]:
    """Take a permit back."""
    lock = hand_back(state.maintenance, order.by)
    if lock is None:
        return state, Answer(accepted=False, reason="no_permit", text=f"{order.by} has no hands inside")
    text = f"{order.by} has taken the hands out"
    return replace(state, maintenance=lock), Answer(accepted=True, reason="accepted", text=text)
