"""Commands from afar: answered at once against the last envelope, acted on by the next tick."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from edge.northbound.actions import EmergencyStop, RequestSnapshot
from edge.northbound.gate import AcceptedCommand, Outcome
from edge.orders import outcome_of, translate
from edge.setpoint import PowerCommand

if TYPE_CHECKING:
    from edge.supervisor import Daemon


class Remote:
    """Turns commands that the gate let through into orders, and follows the one set point in force."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        kept = daemon.parts.saved.lasting.setpoint.command
        self._command_id = "" if kept is None else kept.command_id

    async def serve(self, queue: asyncio.Queue[AcceptedCommand]) -> None:
        """Answer what comes in, for ever."""
        daemon = self._daemon
        while True:
            command = await queue.get()
            outcome = self.answer(command)
            if outcome.result == "accepted":
                view = None if daemon.outcome is None else daemon.outcome.view
                outcome = replace(outcome, documents=daemon.parts.keeper.effect(daemon.core.state, view))
            command.answer(outcome)

    def answer(self, command: AcceptedCommand) -> Outcome:
        """Give the order, or say why not."""
        daemon, clock = self._daemon, self._daemon.parts.clock
        if isinstance(command.args, RequestSnapshot):
            daemon.publish_all()
            return Outcome("done", "done", "everything is published with the next tick")
        if daemon.parts.read_only:
            return Outcome("refused", "read_only", "this edge only looks: it was started read-only")
        if daemon.maintenance and not isinstance(command.args, EmergencyStop):
            # the gate looked when it came in; the lock may have been taken while it waited
            return Outcome(
                "refused", "local_lock", "somebody works on the site; only emergency_stop is taken"
            )
        if daemon.stopping and not isinstance(command.args, EmergencyStop):
            return Outcome("refused", "stopping", "the edge is being stopped")
        order = translate(command, now_s=clock.control_s(), wall_s=clock.wall_s(), utc=clock.utc())
        if isinstance(order, Outcome):
            return order
        answer = daemon.order(order)
        outcome = outcome_of(answer)
        if isinstance(order, PowerCommand) and answer.accepted:
            # the issuer of the set point before is told once this one is on record
            outcome = replace(outcome, supersedes=self._command_id)
            self._command_id = order.command_id
        return outcome

    def follow_up(self) -> None:
        """Tell once that a set point has run out."""
        link, source = self._daemon.parts.link, self._daemon.core.state.setpoint.source
        if not self._command_id or link is None or source == "command":
            return
        if source == "none":
            ended = Outcome(
                "done", "withdrawn", "the site was told to stop or to stand by: nothing is asked any more"
            )
        else:
            ended = Outcome("done", "expired", f"the set point no longer holds; now {source}")
        link.follow_up(self._command_id, ended)
        self._command_id = ""
