"""Commands from the wire to control and answers back: memory, audit and flood limits around the contract.

    bytes ──judge──> Accept ──ledger (order)──queue──> control ──Outcome──> ledger (reply, effect) ──> reply
                     Refuse ──────────────────────────────────────────────> audit ───────────────────> reply
                     Repeat ──────────────────────────────────────────────────────────────────> the same reply

A command is put on record before control is asked, and acknowledged only after sequence, reply and what it
leaves behind are on the disk in one transaction. Killed in between, nothing was acknowledged, and the same
command sent again is taken again. What cannot be put on record is refused; emergency stop and standby act
even then, and say so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from edge.northbound.actions import ActionArgs, EmergencyStop
from edge.northbound.command_log import Blocking, CommandLog
from edge.northbound.contract import Accept, InHand, Known, Refuse, Repeat, issuers_of, judge
from edge.northbound.envelope import Envelope
from edge.northbound.payloads import Reply
from edge.northbound.shedding import Bucket, Screen, Sieve
from edge.store.ledger import Ledger, StoredReply
from reconf.errors import StoreError
from reconf.site import Site

QUEUE_MAX = 32
"""Commands that may wait for control."""
STOPS_MAX = 8
"""Emergency stops that may wait for control; the first of them is enough."""
ANSWER_TIMEOUT_S = 15.0
"""Wall time control has for an answer: a tick and more."""
AUDITED_PER_S = 0.2
"""Refusals that go on record for ever; the others are counted in the next of them. A hostile client could
otherwise fill the disk (this is 8 MB a day)."""
REPLIES_REMEMBERED = 10_000
NOT_TAKEN = frozenset(("busy", "not_recordable"))
"""Refusals after the contract that leave id and sequence unused: the same command may be sent again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What control says to a command."""

    result: Literal["accepted", "refused", "done", "superseded"]
    reason: str
    text: str
    curtailed_to_w: float | None = None
    documents: Mapping[str, Any] = field(default_factory=dict)
    """What must outlive the process if the reply does; on the disk in one transaction with it."""
    supersedes: str = ""
    """Id of the command whose place this one takes; its issuer is told after this reply."""


@dataclass(frozen=True, slots=True)
class AcceptedCommand:
    """A command that passed the contract and waits for control."""

    envelope: Envelope
    args: ActionArgs
    deadline_wall_s: float
    """Monotonic wall time at which it expires; infinite for what cannot expire."""
    answer: Callable[[Outcome], None]
    """Call once, from the event loop, at once: the reply goes out when the ledger has it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the gate asks of the daemon."""

    utc: Callable[[], datetime] = lambda: datetime.now(UTC)
    wall_s: Callable[[], float] = lambda: asyncio.get_running_loop().time()
    clock_trusted: Callable[[], bool] = lambda: True
    local_lock: Callable[[], bool] = lambda: False


class CommandGate:
    """Judges commands, hands them to control, and answers."""

    def __init__(
        self,
        site: Site,
        *,
        ledger: Ledger | None,
        blocking: Blocking[Any],
        around: Surroundings,
        send: Callable[[Reply], None],
        store_text: str = "",
    ) -> None:
        """Nothing is opened here.

        Args:
            site: the site.
            ledger: where commands are put on record.
            blocking: runs what waits for the disk.
            around: clocks and locks.
            send: publishes a reply.
            store_text: why there is no ledger although there should be one: nothing can be put on record.
        """
        self.commands: asyncio.Queue[AcceptedCommand] = asyncio.Queue(QUEUE_MAX)
        self.stops: asyncio.Queue[AcceptedCommand] = asyncio.Queue(STOPS_MAX)
        self.refused: Counter[str] = Counter()
        """Refusals since start, by reason."""
        self.dropped = 0
        """Messages not even looked at because too many came."""
        self.record = CommandLog(ledger, blocking, store_text)
        self._site = site
        self._around, self._send = around, send
        self._issuers = issuers_of(site.mqtt)
        self._sequences: dict[str, int] = {}
        self._replies: dict[str, StoredReply] = {}
        self._pending: dict[str, str] = {}
        self._later: dict[str, Outcome] = {}
        """Second words on commands whose first reply is not out yet."""
        screen = Screen(site.name, frozenset(self._issuers))
        self._sieve, self._stop_sieve = Sieve(screen), Sieve(screen, stops_only=True)
        self._audited = Bucket(rate_hz=AUDITED_PER_S, burst=50.0)
        self._not_audited = 0
        self._log = structlog.get_logger("northbound")

    async def load(self) -> None:
        """Read what earlier runs remember.

        Raises:
            StoreError: it cannot be read; that is told in refusals too.
        """
        try:
            self._sequences, self._replies = await self.record.load()
        except StoreError as error:
            self.record.text = str(error)
            raise

    def known(self) -> Known:
        """What a command is judged against now."""
        return Known(
            site=self._site.name,
            utc=self._around.utc(),
            clock_trusted=self._around.clock_trusted(),
            local_lock=self._around.local_lock(),
            issuers=self._issuers,
            require_signature=frozenset(self._site.mqtt.require_signature),
            sequences=self._sequences,
            replies=self._replies,
            in_hand=self._pending,
        )

    async def take(self, payload: bytes, *, retained: bool, stops_only: bool = False) -> None:
        """One message from a topic that commands, to its reply.

        Args:
            payload: the message.
            retained: the broker kept it.
            stops_only: from the topic of emergency stops.
        """
        known = self.known()
        sieve = self._stop_sieve if stops_only else self._sieve
        if not sieve.passes(payload, self._around.wall_s(), known.utc):
            self.dropped += 1
            return
        verdict = judge(payload, retained=retained, known=known, stops_only=stops_only)
        match verdict:
            case Repeat(reply=reply):
                self._send(Reply.model_validate(reply))
            case Refuse():
                await self._refuse(verdict, known.utc)
            case InHand():
                pass
            case Accept():
                await self._take(verdict, known.utc)

    async def _take(self, accepted: Accept, utc: datetime) -> None:
        """A command that passed the contract, to its reply."""
        envelope = accepted.envelope
        before = self._sequences.get(envelope.issuer)
        if envelope.sequence is not None:
            # taken now, so that a copy that comes while control thinks is out of sequence
            self._sequences[envelope.issuer] = max(envelope.sequence, -1 if before is None else before)
        self._pending[envelope.id] = accepted.digest
        try:
            outcome = await self._ask(accepted, utc)
            if outcome.reason in NOT_TAKEN:
                self._give_back(envelope, before)
                refuse = Refuse(outcome.reason, outcome.text, envelope.id, envelope.issuer, envelope.action)
                await self._refuse(refuse, utc)
            else:
                await self._settle(accepted, outcome)
                if outcome.supersedes:
                    self.follow_up(
                        outcome.supersedes, Outcome("superseded", "superseded", f"by command {envelope.id}")
                    )
        finally:
            self._pending.pop(envelope.id, None)
            later = self._later.pop(envelope.id, None)
        if later is not None:
            self.follow_up(envelope.id, later)

    def _give_back(self, envelope: Envelope, before: int | None) -> None:
        """A command that was not taken does not use up its sequence, unless a later one came meanwhile."""
        if envelope.sequence is None or self._sequences.get(envelope.issuer) != envelope.sequence:
            return
        if before is None:
            del self._sequences[envelope.issuer]
        else:
            self._sequences[envelope.issuer] = before

    async def _ask(self, accepted: Accept, utc: datetime) -> Outcome:
        """Put a command on record, hand it to control, and wait for the answer."""
        if not await self.record.order(accepted, utc):
            text = f"the command log cannot be written ({self.record.text})"
            return Outcome("refused", "not_recordable", f"{text}; emergency_stop and standby are taken")
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        command = AcceptedCommand(
            accepted.envelope,
            accepted.args,
            self._deadline_s(accepted, utc),
            lambda outcome: _set_once(answered, outcome),
        )
        queue = self.stops if isinstance(accepted.args, EmergencyStop) else self.commands
        try:
            queue.put_nowait(command)
        except asyncio.QueueFull:
            return Outcome("refused", "busy", f"{queue.maxsize} commands wait already")
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await answered
        except TimeoutError:
            return Outcome("refused", "no_answer", "control did not answer in time; it may still act on it")

    async def _settle(self, accepted: Accept, outcome: Outcome) -> None:
        """Sequence, reply and audit entry onto the disk, then the reply."""
        envelope, utc = accepted.envelope, self._around.utc()
        reply = self._reply(envelope.id, outcome, utc)
        stored = StoredReply(accepted.digest, reply.model_dump(mode="json"))
        self._remember(envelope.id, stored)
        if not await self.record.settle(accepted, stored, outcome.documents, utc):
            text = f"{reply.text} (not on record: {self.record.text})"
            reply = reply.model_copy(update={"text": text})
        self._log.info(
            "command", id=envelope.id, issuer=envelope.issuer, action=envelope.action, result=outcome.result,
            reason=outcome.reason,
        )  # fmt: skip
        self._send(reply)

    async def _refuse(self, refuse: Refuse, utc: datetime) -> None:
        """Count, put on record as far as the limit allows, reply."""
        self.refused[refuse.reason] += 1
        self._send(self._reply(refuse.command_id, Outcome("refused", refuse.reason, refuse.text), utc))
        if not self._audited.take(self._around.wall_s()):
            self._not_audited += 1
            return
        entry = {
            "kind": "refusal", "id": refuse.command_id, "issuer": refuse.issuer, "action": refuse.action,
            "reason": refuse.reason, "text": refuse.text,
            "not_recorded_before": self._not_audited, "dropped_since_start": self.dropped,
        }  # fmt: skip
        self._log.warning("command_refused", **{k: v for k, v in entry.items() if k != "kind"})
        self._not_audited = 0
        await self.record.refusal(entry, utc)

    def _reply(self, command_id: str | None, outcome: Outcome, utc: datetime) -> Reply:
        return Reply(
            id=command_id,
            result=outcome.result,
            reason=outcome.reason,
            text=outcome.text,
            curtailed_to_w=outcome.curtailed_to_w,
            site=self._site.name,
            utc=utc,
        )

    def follow_up(self, command_id: str, outcome: Outcome) -> None:
        """A later word on a command that was accepted: done or superseded. Never ahead of its first reply."""
        if command_id in self._pending:
            self._later[command_id] = outcome
        else:
            self._send(self._reply(command_id, outcome, self._around.utc()))

    def _deadline_s(self, accepted: Accept, utc: datetime) -> float:
        """Monotonic wall time of expiry; a stop, and standby without a clock, do not expire."""
        if accepted.envelope.action == "emergency_stop" or not self._around.clock_trusted():
            return float("inf")
        return self._around.wall_s() + (accepted.envelope.expires_at - utc).total_seconds()

    def _remember(self, command_id: str, reply: StoredReply) -> None:
        """Keep the reply for repeats; the oldest go."""
        self._replies[command_id] = reply
        while len(self._replies) > REPLIES_REMEMBERED:
            self._replies.pop(next(iter(self._replies)))


def _set_once(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    """Take the first answer; one after the time-out is too late."""
    if not future.done():
        future.set_result(outcome)
