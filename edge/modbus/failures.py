"""Why one exchange with one node failed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from reconf.errors import TransportError


class FailureKind(StrEnum):
    """What was seen on the wire."""

    NO_ANSWER = "no_answer"
    """Nothing came in time, or a gateway said that its target does not answer (exceptions 0x0A, 0x0B)."""
    DISCONNECTED = "disconnected"
    """There is no connection, or it broke."""
    SHORT = "short"
    """Fewer (or more) registers than asked for."""
    GARBAGE = "garbage"
    """Bytes that are no answer to this request, or a block without the device's mark."""
    REFUSED = "refused"
    """A Modbus exception."""
    BACKING_OFF = "backing_off"
    """Not tried: the unit failed just now and its next try is not due."""
    READ_ONLY = "read_only"
    """Not tried: this side never writes."""


class NodeError(TransportError):
    """One exchange failed; the next tick may succeed."""

    def __init__(self, kind: FailureKind, text: str, exception_code: int = 0) -> None:
        super().__init__(text)
        self.kind = kind
        self.exception_code = exception_code

    @property
    def retry_now(self) -> bool:
        """The failure came at once, so that trying a read again costs the others nothing."""
        return self.kind in (FailureKind.DISCONNECTED, FailureKind.SHORT, FailureKind.GARBAGE)


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """A node was lost or came back; said once."""

    kind: Literal["lost", "back"]
    label: str
    gateway: str
    unit_id: int
    text: str
