"""The client's side of the on-site door: one request, one reply."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge.onsite.door import reachable
from edge.onsite.messages import REPLY_MAX, Reply, Request
from reconf.errors import ReconfError


class DoorError(ReconfError):
    """Nobody answers at the on-site door; trying again helps once the daemon runs."""


def ask(
    folder: Path,
    site: str,
    action: str,
    args: dict[str, Any] | None = None,
    *,
    by: str = "",
    wait_s: float = 35.0,
) -> Reply:
    """Ask the daemon that owns `folder`, and runs `site`, for an action.

    Raises:
        DoorError: no daemon, no permission, or no reply in time.
    """
    request = Request(site=site, action=action, args=args or {}, by=by or whoami(), via=way_here())
    try:
        with reachable(folder) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.settimeout(wait_s)
            door.connect(path)
            with contextlib.suppress(ConnectionError):
                # a stranger is answered and hung up on before he has asked: his reply waits here already
                door.sendall(request.model_dump_json().encode() + b"\n")
            return Reply.model_validate_json(_line(door))
    except PermissionError as error:
        raise DoorError(f"{folder}: not allowed; ask as root or as the daemon's user") from error
    except (FileNotFoundError, ConnectionError) as error:
        raise DoorError(f"{folder}: no daemon serves this state directory ({error})") from error
    except TimeoutError as error:
        raise DoorError(f"{folder}: no reply within {wait_s:g} s") from error
    except (OSError, ValidationError) as error:
        raise DoorError(f"{folder}: {error}") from error


def _line(door: socket.socket) -> bytes:
    """A whole line.

    Raises:
        ConnectionError: it ended before, or is longer than any reply.
    """
    got = bytearray()
    while not got.endswith(b"\n"):
        more = door.recv(65_536)
        if not more or len(got) > REPLY_MAX:
            raise ConnectionError("the daemon hung up")
        got += more
    return bytes(got)


def whoami() -> str:
    """The person, also behind sudo."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def way_here() -> str:
    """`ssh ADDRESS` where the session came over SSH, else `console`."""
    address = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    return f"ssh {address}"[:128] if address else "console"
