"""Reading a command's bytes: size, nesting, JSON without surprises, models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from edge.northbound.actions import ARGS, ActionArgs
from edge.northbound.shedding import SIZE_MAX

DEPTH_MAX = 8
INTEGER_MAX = 2**53 - 1
"""Largest integer every JSON reader agrees on (RFC 8785, section 3.2.2.3)."""
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_RFC3339 = re.compile(r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})$")


class ReadError(ValueError):
    """Bytes that are not a command; says where."""

    def __init__(
        self,
        reason: str,
        text: str,
        command_id: str | None = None,
        issuer: str | None = None,
        action: str | None = None,
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.command_id = command_id
        self.issuer = issuer
        self.action = action


class Envelope(BaseModel):
    """What every command carries."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    id: str = Field(
        pattern=_UUID, description="UUID, new for every command; sent again it gets the same reply"
    )
    issuer: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$", description="who commands")
    sequence: int | None = Field(
        default=None,
        ge=0,
        le=INTEGER_MAX,
        description="strictly increasing per issuer; emergency_stop needs none",
    )
    issued_at: AwareDatetime = Field(strict=False, description="RFC 3339")
    expires_at: AwareDatetime = Field(strict=False, description="RFC 3339; a set point holds until then")
    action: str = Field(description="one of the actions")
    args: dict[str, Any] = Field(default={}, description="arguments of the action")
    site: str | None = Field(default=None, description="name of the site; needed when signed")
    signature: str | None = Field(default=None, max_length=128, description="base64 of the Ed25519 signature")


def read_json(payload: bytes) -> dict[str, Any]:
    """Parse the bytes of a command.

    Raises:
        ReadError: too long, too deep, not UTF-8, not JSON, a key twice, NaN, or not an object.
    """
    if len(payload) > SIZE_MAX:
        raise ReadError("oversize", f"longer than the {SIZE_MAX} bytes that are read")
    depth = nesting(payload)
    if depth > DEPTH_MAX:
        raise ReadError("over_nested", f"nested {depth} deep; at most {DEPTH_MAX}")
    try:
        data = json.loads(
            payload.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_integer,
        )
    except UnicodeDecodeError as error:
        raise ReadError("malformed", f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        text = f"not JSON at line {error.lineno} column {error.colno}: {error.msg}"
        raise ReadError("malformed", text) from error
    if not isinstance(data, dict):
        raise ReadError("malformed", "not a JSON object")
    return data


def nesting(payload: bytes) -> int:
    """Depth of brackets outside strings, without parsing."""
    depth = deepest = 0
    for piece in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', payload, re.DOTALL):
        if piece[0] in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
        elif piece[0] in (b"}", b"]"):
            depth -= 1
    return deepest


def read_envelope(data: Mapping[str, Any]) -> Envelope:
    """The envelope of a parsed command.

    Raises:
        ReadError: keys or values that are not allowed.
    """
    command_id, issuer, action = (_text(data, key) for key in ("id", "issuer", "action"))
    try:
        for key in ("issued_at", "expires_at"):
            _check_date(data, key)
        envelope = Envelope.model_validate(data)
    except ValidationError as error:
        reason, text = _describe(error, "")
        raise ReadError(reason, text, command_id, issuer, action) from error
    except ReadError as error:
        raise ReadError(error.reason, str(error), command_id, issuer, action) from error
    if envelope.action not in ARGS:
        text = f"action {envelope.action!r} is none of {', '.join(ARGS)}"
        raise ReadError("malformed", text, command_id, issuer, action)
    return envelope


def read_args(envelope: Envelope) -> ActionArgs:
    """The arguments of a command's action.

    Raises:
        ReadError: keys or values that are not allowed.
    """
    try:
        return ARGS[envelope.action].model_validate(envelope.args)
    except ValidationError as error:
        reason, text = _describe(error, "args.")
        raise ReadError(reason, text, envelope.id, envelope.issuer, envelope.action) from error


def _describe(error: ValidationError, prefix: str) -> tuple[str, str]:
    """Reason and text: every place that is wrong."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{prefix}{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors]
    unknown = all(e["type"] == "extra_forbidden" for e in errors)
    return ("unknown_keys" if unknown else "malformed"), "; ".join(lines)[:500]


def _text(data: Mapping[str, Any], key: str) -> str | None:
    """A short text under `key`, for the reply to a command that is wrong elsewhere."""
    value = data.get(key)
    return value if isinstance(value, str) and len(value) <= 64 and value.isprintable() else None


def _check_date(data: Mapping[str, Any], key: str) -> None:
    """Only RFC 3339 with a zone: no bare numbers, no local time."""
    value = data.get(key)
    if value is not None and not (isinstance(value, str) and _RFC3339.match(value)):
        raise ReadError("malformed", f"{key}: an RFC 3339 time with its zone, such as 2026-01-31T12:00:00Z")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object none of whose keys stands twice: readers disagree about which one counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ReadError("malformed", f"key {twice[:40]!r} stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ReadError("malformed", f"{name} is not JSON")


def _integer(text: str) -> int:
    """An integer that every reader reads alike."""
    number = int(text) if len(text) <= 17 else INTEGER_MAX + 1
    if abs(number) > INTEGER_MAX:
        raise ReadError("malformed", f"number {text[:20]}... is too large")
    return number
