"""What goes through the on-site door: one JSON object a line, in both directions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

SOCKET_NAME = "onsite.sock"
LINE_MAX = 16_384
"""Bytes of a request; a longer line ends the connection."""
REPLY_MAX = 4 * 1024 * 1024
"""Bytes of a reply that the client takes."""

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Message(BaseModel):
    """Base: unknown keys and silent conversions are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Request(Message):
    """Ask the daemon for an action."""

    site: Name
    """Name of the site that is meant; another one refuses."""
    action: Annotated[str, Field(min_length=1, max_length=64)]
    args: dict[str, Any] = {}
    by: Name = Field(description="who asks, as that person says")
    via: Annotated[str, Field(max_length=128)] = Field(
        default="", description="how the person got here, e.g. `ssh 10.0.0.7`; as the client says"
    )


class Reply(Message):
    """What came of it."""

    accepted: bool
    reason: str
    """Machine-readable: `accepted`, `not_isolated`, `not_released`, `not_cleared`, `malformed`, ..."""
    text: str
    data: dict[str, Any] = {}


def no(reason: str, text: str) -> Reply:
    """A refusal."""
    return Reply(accepted=False, reason=reason, text=text)
