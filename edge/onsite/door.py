"""The daemon's side of the on-site door.

A Unix socket (mode 0600) in the state directory. Who may come in is decided by the kernel's word on the
peer (SO_PEERCRED): the daemon's own user, or root. Requests are lines of bounded length, answered one by
one; what an action does to the site passes through the same core as any other order. A peer that says
nothing, or never reads its reply, is hung up on; control does not wait for any of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import ValidationError

from edge.onsite.actions import ACTIONS
from edge.onsite.desk import Action, Peer, Table
from edge.onsite.messages import LINE_MAX, SOCKET_NAME, Message, Reply, Request, no

if TYPE_CHECKING:
    from edge.supervisor import Daemon

CONNECTIONS_MAX = 8
IDLE_S = 60.0
"""Wall time a peer may be silent, and may take to read a reply."""
ACTION_S = 30.0
"""Wall time an action may take."""
_CREDENTIALS = struct.Struct("3i")
_SUN_PATH = 100
"""Bytes of a socket's path that are surely allowed (sockaddr_un holds 108)."""

log = structlog.get_logger("onsite")


@contextmanager
def reachable(folder: Path) -> Iterator[str]:
    """A path to the socket that is short enough for the kernel, however deep the folder lies.

    Raises:
        OSError: the folder is not there.
    """
    path = str(folder / SOCKET_NAME)
    if len(os.fsencode(path)) < _SUN_PATH:
        yield path
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET_NAME}"
    finally:
        os.close(handle)


def listening(folder: Path) -> socket.socket:
    """The socket, bound and private before anybody can connect.

    Raises:
        OSError: it cannot be made.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with reachable(folder) as path:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()  # of an earlier life; the state directory has one owner
            made.bind(path)
            Path(path).chmod(0o600)
        made.listen(CONNECTIONS_MAX)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


@asynccontextmanager
async def onsite_door(
    made: Daemon, folder: Path | None, table: Table = ACTIONS
) -> AsyncIterator[OnSiteDoor | None]:
    """The door while this is open; None where there is no state directory or it cannot be made."""
    if folder is None:
        log.warning("no_door", text="no state directory: maintenance cannot be taken on this edge")
        yield None
        return
    try:
        made_socket = listening(folder)
    except OSError as error:
        log.warning("no_door", error=str(error))
        yield None
        return
    door = OnSiteDoor(made, table)
    server = await asyncio.start_unix_server(door.serve, sock=made_socket, limit=LINE_MAX)
    try:
        yield door
    finally:
        server.close()
        await door.close()
        with contextlib.suppress(OSError):
            (folder / SOCKET_NAME).unlink()


class OnSiteDoor:
    """Serves whoever stands at the site."""

    def __init__(self, made: Daemon, table: Table = ACTIONS) -> None:
        self._made, self._table = made, table
        self._peers: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Hang up on everybody."""
        for task in self._peers:
            task.cancel()
        await asyncio.gather(*self._peers, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        if task is None or len(self._peers) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._peers.add(task)
        try:
            await self._talk(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # the peer is gone, silent, or the daemon ends
        except Exception:
            # A fault of the program in any action: nobody awaits this task, so that without a word here it
            # would be told when the task is collected, or never. The peer is hung up on; control goes on.
            log.exception("onsite_failed")
        finally:
            self._peers.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid, pid = credentials(writer.get_extra_info("socket"))
        if uid not in {0, os.geteuid()}:
            log.warning("onsite_stranger", uid=uid, pid=pid)
            await self._send(writer, no("not_allowed", "only root and the daemon's own user come in here"))
            return
        while True:
            try:
                async with asyncio.timeout(IDLE_S):
                    line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                await self._send(writer, no("malformed", f"a request has {LINE_MAX} bytes at most"))
                return
            await self._send(writer, await self.answer(line, uid, pid))

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        writer.write(reply.model_dump_json().encode() + b"\n")
        async with asyncio.timeout(IDLE_S):
            await writer.drain()

    async def answer(self, line: bytes, uid: int, pid: int) -> Reply:
        """From a line to its reply."""
        try:
            request = Request.model_validate_json(line)
            name = self._made.parts.site.name
            if request.site != name:
                return no("wrong_site", f"this is {name!r}, not {request.site!r}")
            action = self._table.get(request.action)
            if action is None:
                return no("unknown_action", f"{request.action!r}: one of {', '.join(self._table)}")
            args = action.args.model_validate_json(json.dumps(request.args))
        except ValidationError as error:
            return no("malformed", _said(error))
        peer = Peer(uid=uid, pid=pid, by=request.by, via=request.via)
        reply = await self._act(action, args, peer)
        return await self._on_record(action, request, args, peer, reply) if action.audited else reply

    async def _act(self, action: Action[Any], args: Message, peer: Peer) -> Reply:
        if action.changes and self._made.parts.read_only:
            return no("read_only", "this edge only looks: it was started read-only")
        try:
            async with asyncio.timeout(ACTION_S):
                return await action.run(self._made, args, peer)
        except TimeoutError:
            return no("no_answer", "it took too long; the daemon may still act on it")

    async def _on_record(
        self, action: Action[Any], request: Request, args: Message, peer: Peer, reply: Reply
    ) -> Reply:
        """Into the audit log, and only then to the person."""
        entry = {
            "kind": "onsite",
            "action": request.action,
            "args": args.model_dump(mode="json"),
            "by": peer.by,
            "uid": peer.uid,
            "via": peer.via,
            "result": "accepted" if reply.accepted else "refused",
            "reason": reply.reason,
            "text": reply.text,
        }
        log.info("onsite", **{k: v for k, v in entry.items() if k not in {"kind", "args"}})
        made = self._made
        view = None if made.outcome is None else made.outcome.view
        trouble = await made.parts.keeper.record(entry, made.parts.keeper.effect(made.core.state, view))
        if not trouble:
            return reply
        if reply.accepted and action.needs_record:
            if action.undo is not None:
                await action.undo(made, args, peer)
            return no("not_on_record", f"refused, it could not be put on record: {trouble}")
        return reply.model_copy(update={"text": f"{reply.text} (not on record: {trouble})"})


def credentials(peer: socket.socket) -> tuple[int, int]:
    """(uid, pid) of the process at the other end, as the kernel says."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return uid, pid


def _said(error: ValidationError) -> str:
    """What is wrong with a request, in one line."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'request'}: {e['msg']}" for e in error.errors()[:5])
