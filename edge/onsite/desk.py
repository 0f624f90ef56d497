"""What an on-site action may use of the daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from edge.onsite.messages import Message, Reply

if TYPE_CHECKING:
    from edge.supervisor import Daemon


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the door: what the kernel says of the process, and what the person says."""

    uid: int
    pid: int
    by: str
    via: str


A = TypeVar("A", bound=Message)


@dataclass(frozen=True, slots=True)
class Action(Generic[A]):
    """One row of the table of on-site actions.

    `run` is called in the daemon's event loop and must not block; what takes long is awaited. Whatever it
    answers is written into the audit log before it is sent, unless `audited` is False (looking only).
    """

    args: type[A]
    run: Callable[[Daemon, A, Peer], Awaitable[Reply]]
    audited: bool = True
    changes: bool = True
    """Refused on an edge that only looks (`--read-only`)."""
    needs_record: bool = False
    """Refused unless the audit log can be written."""
    undo: Callable[[Daemon, A, Peer], Awaitable[Reply]] | None = None
    """Called where `needs_record` could not be kept."""


Table = Mapping[str, Action[Any]]
