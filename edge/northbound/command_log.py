"""Commands on record: before control is asked, and before anybody is answered.

What cannot be put on record is not done; what makes a site safe is done all the same, and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import structlog

from edge.northbound.actions import ActionArgs, EmergencyStop, RequestSnapshot, SetMode
from edge.northbound.contract import Accept
from edge.store.ledger import Ledger, StoredReply
from reconf.errors import StoreError

T = TypeVar("T")
Blocking = Callable[[Callable[[], T]], Awaitable[T]]

RECORD_S = 5.0
"""Wall time the disk has to take an order before it is refused."""
STANDBY_WAITS_S = 1.0
"""Wall time that standby, and the reply to a stop, wait for the disk."""
FOREVER_S = 86_400.0
WRITES_MAX = 128
"""Entries that may wait for the disk; a disk that hangs for long is asked no more."""


class CommandLog:
    """The ledger as the gate uses it: never longer waited for than is right, troubles told once."""

    def __init__(self, ledger: Ledger | None, blocking: Blocking[Any], text: str = "") -> None:
        """Nothing is opened here.

        Args:
            ledger: None: there is none.
            blocking: runs what waits for the disk.
            text: why there is no ledger although there should be one.
        """
        self.text = text
        """Why it could not be written last time; empty when it could."""
        self._ledger, self._blocking = ledger, blocking
        self._writing: set[asyncio.Task[bool]] = set()
        self._log = structlog.get_logger("northbound")

    async def load(self) -> tuple[dict[str, int], dict[str, StoredReply]]:
        """Sequences by issuer and replies by command id, of earlier runs.

        Raises:
            StoreError: the ledger cannot be read.
        """
        if self._ledger is None:
            return {}, {}
        return await self._blocking(self._ledger.sequences), await self._blocking(self._ledger.replies)

    async def order(self, accepted: Accept, utc: datetime) -> bool:
        """Whether the ledger has the order, or the order does not wait for that.

        An emergency stop waits for nothing. Standby keeps its turn behind earlier commands, for a moment.
        """
        ledger, args = self._ledger, accepted.args
        if isinstance(args, EmergencyStop | RequestSnapshot):
            return True
        standby = acts_unrecorded(args)
        if ledger is None:
            return standby or not self.text
        entry = {"kind": "order", "command": accepted.envelope.model_dump(mode="json", exclude_none=True)}
        limit_s = STANDBY_WAITS_S if standby else RECORD_S
        return await self._written(limit_s, lambda: ledger.audit([entry], utc)) or standby

    async def settle(
        self, accepted: Accept, reply: StoredReply, documents: Mapping[str, Any], utc: datetime
    ) -> bool:
        """Sequence, reply, effect and audit entry onto the disk in one transaction; whether they are there.

        What makes safe is answered even when the disk hangs; everything else is not acknowledged then.
        """
        ledger, envelope = self._ledger, accepted.envelope
        if ledger is None:
            return True
        # its own, not the newest one seen: a later command that is still in hand has not used up anything yet
        sequence = None if envelope.sequence is None else (envelope.issuer, envelope.sequence)
        entry = {
            "kind": "command",
            "command": envelope.model_dump(mode="json", exclude_none=True),
            "signed": accepted.signed,
            **{key: reply.reply[key] for key in ("result", "reason", "text")},
        }
        return await self._written(
            STANDBY_WAITS_S if acts_unrecorded(accepted.args) else FOREVER_S,
            lambda: ledger.settle(
                utc=utc,
                command_id=envelope.id,
                digest=accepted.digest,
                reply=reply.reply,
                sequence=sequence,
                audit=entry,
                documents=documents,
            ),
        )

    async def refusal(self, entry: Mapping[str, Any], utc: datetime) -> None:
        """A refusal into the audit log."""
        ledger = self._ledger
        if ledger is not None:
            await self._written(RECORD_S, lambda: ledger.audit([entry], utc))

    async def _written(self, limit_s: float, work: Callable[[], Any]) -> bool:
        """Whether the ledger was written in time; a disk that hangs is left to itself."""
        if len(self._writing) >= WRITES_MAX:
            return False
        writing = asyncio.create_task(self._write(work))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.shield(writing)
        except TimeoutError:
            self._told(f"the disk has not answered for {limit_s:g} s")
            return False

    async def _write(self, work: Callable[[], Any]) -> bool:
        """Write to the ledger; a failure is told, and control goes on."""
        try:
            await self._blocking(work)
        except StoreError as error:
            self._told(str(error))
            return False
        if self.text:
            self._log.info("ledger_written_again")
        self.text = ""
        return True

    def _told(self, text: str) -> None:
        """A trouble, told once until it is over."""
        if not self.text:
            self._log.error("ledger_not_written", error=text)
        self.text = text


def acts_unrecorded(args: ActionArgs) -> bool:
    """What makes a site safe does not wait for a disk; a snapshot changes nothing."""
    return isinstance(args, EmergencyStop | RequestSnapshot) or (
        isinstance(args, SetMode) and args.mode == "standby"
    )
