"""The table of on-site actions. A new one is a row: arguments, and a coroutine that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from edge.clock import Clock
from edge.core_values import (
    Answer,
    ClearFault,
    EmergencyStop,
    HandsInside,
    HandsOut,
    HoldMaintenance,
    SetMode,
    StartCapacityTest,
)
from edge.onsite.desk import Action, Peer, Table
from edge.onsite.messages import Message, Name, Reply
from edge.onsite.pack import capacity_report, nodes_report
from edge.onsite.report import site_report
from reconf.isolation import Statement
from reconf.sequences import SiteMode

if TYPE_CHECKING:
    from edge.supervisor import Daemon


class Nothing(Message):
    """No arguments."""


class Clear(Message):
    """A latched fault whose cause is gone."""

    fault: Annotated[str, Field(min_length=1, max_length=64)]
    subject: Annotated[str, Field(max_length=64)] | None = None
    on_site: bool = False
    """The person confirms to stand at the site: needed for faults that opened it."""


class Inside(Message):
    """What the person confirms and has measured."""

    disconnect_locked: bool
    measured_v: float
    strings: tuple[Name, ...] = ()


class Mode(Message):
    """Start or stop the site on site."""

    mode: Literal["off", "standby", "run"]


class Capacity(Message):
    """Measure capacities of the live pack, or stop doing so."""

    string: Name | None = None
    current_c: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    active: bool = True


def _utc(clock: Clock) -> str:
    return clock.utc().isoformat(timespec="seconds").replace("+00:00", "Z")


def _reply(made: Daemon, answer: Answer) -> Reply:
    return Reply(accepted=answer.accepted, reason=answer.reason, text=answer.text, data=site_report(made))


async def _status(made: Daemon, _: Nothing, __: Peer) -> Reply:
    return Reply(accepted=True, reason="accepted", text="", data=site_report(made))


async def _take(made: Daemon, _: Nothing, peer: Peer) -> Reply:
    return _reply(made, made.order(HoldMaintenance(True, peer.by, _utc(made.parts.clock))))


async def _release(made: Daemon, _: Nothing, peer: Peer) -> Reply:
    return _reply(made, made.order(HoldMaintenance(False, peer.by, _utc(made.parts.clock))))


async def _inside(made: Daemon, args: Inside, peer: Peer) -> Reply:
    statement = Statement(peer.by, args.disconnect_locked, args.measured_v, args.strings)
    return _reply(made, made.order(HandsInside(statement, _utc(made.parts.clock))))


async def _out(made: Daemon, _: Message, peer: Peer) -> Reply:
    return _reply(made, made.order(HandsOut(peer.by)))


async def _clear(made: Daemon, args: Clear, _: Peer) -> Reply:
    return _reply(made, made.order(ClearFault(args.fault, args.subject, on_site=args.on_site)))


async def _stop(made: Daemon, _: Nothing, peer: Peer) -> Reply:
    return _reply(made, made.order(EmergencyStop(f"on site, {peer.by}")))


async def _mode(made: Daemon, args: Mode, _: Peer) -> Reply:
    return _reply(made, made.order(SetMode(SiteMode(args.mode), on_site=True)))


async def _nodes(made: Daemon, _: Nothing, __: Peer) -> Reply:
    return Reply(accepted=True, reason="accepted", text="", data=await nodes_report(made))


async def _capacity(made: Daemon, args: Capacity, _: Peer) -> Reply:
    answer = made.order(StartCapacityTest(args.string, args.current_c, args.active))
    data = capacity_report(made.core.state.capacity_test)
    return Reply(accepted=answer.accepted, reason=answer.reason, text=answer.text, data=data)


async def _capacity_status(made: Daemon, _: Nothing, __: Peer) -> Reply:
    data = capacity_report(made.core.state.capacity_test)
    return Reply(accepted=True, reason="accepted", text="", data=data)


ACTIONS: Table = {
    "status": Action(Nothing, _status, audited=False, changes=False),
    "maintenance_take": Action(Nothing, _take),
    "maintenance_release": Action(Nothing, _release),
    "hands_inside": Action(Inside, _inside, needs_record=True, undo=_out),
    "hands_out": Action(Nothing, _out),
    "clear_fault": Action(Clear, _clear),
    "emergency_stop": Action(Nothing, _stop),
    "set_mode": Action(Mode, _mode),
    "nodes": Action(Nothing, _nodes, audited=False, changes=False),
    "capacity_test": Action(Capacity, _capacity),
    "capacity_status": Action(Nothing, _capacity_status, audited=False, changes=False),
}
