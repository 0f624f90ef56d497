"""The client of the on-site door, against sockets that behave as a daemon's may."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.onsite import client
from edge.onsite.client import DoorError, ask
from edge.onsite.door import listening
from edge.onsite.messages import Request, no

REFUSAL = no("not_allowed", "only root and the daemon's own user come in here")


@contextlib.contextmanager
def hanging_up(folder: Path, reply: bytes) -> Iterator[threading.Event]:
    """Answers with `reply` before it is asked, and hangs up; the event is set once it has."""
    gone = threading.Event()
    door = listening(folder)
    door.setblocking(True)

    def serve() -> None:
        peer, _ = door.accept()
        with peer:
            peer.sendall(reply)
        gone.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield gone
    finally:
        thread.join(10.0)
        door.close()


@pytest.fixture
def asks_late(monkeypatch: pytest.MonkeyPatch) -> list[threading.Event]:
    """The client writes its request only after the event put in here."""
    waits: list[threading.Event] = []

    class Late(Request):
        def model_dump_json(self, **kwargs: object) -> str:  # type: ignore[override]  # none are given
            assert waits[0].wait(10.0)
            return super().model_dump_json()

    monkeypatch.setattr(client, "Request", Late)
    return waits


def test_a_refusal_is_read_though_the_daemon_hung_up_before_the_request(tmp_path, asks_late) -> None:
    with hanging_up(tmp_path, REFUSAL.model_dump_json().encode() + b"\n") as gone:
        asks_late.append(gone)
        assert ask(tmp_path, "s", "status", wait_s=10.0) == REFUSAL


def test_who_is_hung_up_on_without_a_word_is_told_so(tmp_path, asks_late) -> None:
    with hanging_up(tmp_path, b"") as gone:
        asks_late.append(gone)
        with pytest.raises(DoorError, match="hung up"):
            ask(tmp_path, "s", "status", wait_s=10.0)


def test_a_socket_that_nobody_serves_any_more_is_no_daemon(tmp_path) -> None:
    listening(tmp_path).close()
    with pytest.raises(DoorError, match="no daemon"):
        ask(tmp_path, "s", "status", wait_s=10.0)
