"""Commands from the wire to control and answers back: memory, audit and flood limits around the contract.

    bytes ──judge──> Accept ──queue──> control ──Outcome──> ledger (sequence, reply, audit) ──> reply
                     Refuse ──────────────────────────────> audit ───────────────────────────> reply
                     Repeat ──────────────────────────────────────────────────────────────────> the same reply

A command is acknowledged only after the ledger has it. Killed in between, nothing was acknowledged, and
the same command sent again is taken again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import structlog

from edge.northbound.actions import ActionArgs
from edge.northbound.contract import Accept, Known, Refuse, Repeat, issuers_of, judge
from edge.northbound.envelope import Envelope
from edge.northbound.payloads import Reply
from edge.northbound.shedding import Bucket, Sieve
from edge.store.ledger import Ledger, StoredReply
from reconf.errors import StoreError
from reconf.site import Site

T = TypeVar("T")
Blocking = Callable[[Callable[[], T]], Awaitable[T]]

QUEUE_MAX = 32
"""Commands that may wait for control."""
ANSWER_TIMEOUT_S = 15.0
"""Wall time control has for an answer: a tick and more."""
REPLIES_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What control says to a command."""

    result: Literal["accepted", "refused", "done", "superseded"]
    reason: str
    text: str
    curtailed_to_w: float | None = None


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
    ) -> None:
        self.commands: asyncio.Queue[AcceptedCommand] = asyncio.Queue(QUEUE_MAX)
        self.refused: Counter[str] = Counter()
        """Refusals since start, by reason."""
        self.dropped = 0
        """Messages not even looked at because too many came."""
        self.store_text = ""
        """Why the ledger could not be written last time; empty when it could."""
        self._site, self._ledger, self._blocking = site, ledger, blocking
        self._around, self._send = around, send
        self._issuers = issuers_of(site.mqtt)
        self._sequences: dict[str, int] = {}
        self._replies: dict[str, StoredReply] = {}
        self._pending: dict[str, str] = {}
        self._sieve = Sieve()
        self._audited = Bucket(rate_hz=2.0, burst=50.0)
        self._not_audited = 0
        self._log = structlog.get_logger("northbound")

    async def load(self) -> None:
        """Read what earlier runs remember."""
        if self._ledger is None:
            return
        self._sequences = await self._blocking(self._ledger.sequences)
        self._replies = await self._blocking(self._ledger.replies)

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
        )

    async def take(self, payload: bytes, *, retained: bool) -> None:
        """One message from the command topic, to its reply."""
        if not self._sieve.passes(payload, self._around.wall_s()):
            self.dropped += 1
            return
        known = self.known()
        verdict = judge(payload, retained=retained, known=known)
        match verdict:
            case Repeat(reply=reply):
                self._send(Reply.model_validate(reply))
            case Refuse():
                await self._refuse(verdict, known.utc)
            case Accept() if verdict.envelope.id in self._pending:
                pass  # the same command while its first copy waits for control: one reply answers both
            case Accept():
                await self._ask(verdict, known.utc)

    async def _ask(self, accepted: Accept, utc: datetime) -> None:
        """Hand a command to control, wait for its answer, put it on record, reply."""
        envelope = accepted.envelope
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        command = AcceptedCommand(
            envelope,
            accepted.args,
            self._deadline_s(accepted, utc),
            lambda outcome: _set_once(answered, outcome),
        )
        try:
            self.commands.put_nowait(command)
        except asyncio.QueueFull:
            text = f"{QUEUE_MAX} commands wait already"
            await self._refuse(Refuse("busy", text, envelope.id, envelope.issuer, envelope.action), utc)
            return
        before = self._sequences.get(envelope.issuer)
        if envelope.sequence is not None:
            # taken now, so that a copy that comes while control thinks is out of sequence
            self._sequences[envelope.issuer] = max(envelope.sequence, -1 if before is None else before)
        self._pending[envelope.id] = accepted.digest
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                outcome = await answered
        except TimeoutError:
            outcome = Outcome(
                "refused", "no_answer", "control did not answer in time; it may still act on it"
            )
        finally:
            self._pending.pop(envelope.id, None)
        await self._settle(accepted, outcome)

    async def _settle(self, accepted: Accept, outcome: Outcome) -> None:
        """Sequence, reply and audit entry onto the disk, then the reply."""
        envelope, utc = accepted.envelope, self._around.utc()
        reply = self._reply(envelope.id, outcome, utc)
        stored = StoredReply(accepted.digest, reply.model_dump(mode="json"))
        self._remember(envelope.id, stored)
        sequence = None if envelope.sequence is None else (envelope.issuer, self._sequences[envelope.issuer])
        entry = {
            "kind": "command",
            "command": envelope.model_dump(mode="json", exclude_none=True),
            "signed": accepted.signed,
            "result": outcome.result,
            "reason": outcome.reason,
            "text": outcome.text,
        }
        ledger = self._ledger
        if ledger is not None:
            written = await self._write(
                lambda: ledger.settle(
                    utc=utc,
                    command_id=envelope.id,
                    digest=accepted.digest,
                    reply=stored.reply,
                    sequence=sequence,
                    audit=entry,
                )
            )
            if not written:
                text = f"{reply.text} (not on record: {self.store_text})"
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
        ledger = self._ledger
        if ledger is not None:
            await self._write(lambda: ledger.audit([entry], utc))

    async def _write(self, work: Callable[[], Any]) -> bool:
        """Write to the ledger; a failure is told, and control goes on."""
        try:
            await self._blocking(work)
        except StoreError as error:
            if not self.store_text:
                self._log.error("ledger_not_written", error=str(error))
            self.store_text = str(error)
            return False
        if self.store_text:
            self._log.info("ledger_written_again")
        self.store_text = ""
        return True

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
        """A later word on a command that was accepted: done or superseded."""
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
