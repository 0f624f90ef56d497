"""Words to systemd: READY once, WATCHDOG after completed ticks only, STATUS for `systemctl status`."""

from __future__ import annotations

import sdnotify


class Notifier:
    """Silent where no systemd asked (NOTIFY_SOCKET is not set)."""

    def __init__(self) -> None:
        self._socket = sdnotify.SystemdNotifier()
        self._ready = False

    def completed(self, text: str) -> None:
        """A tick was completed: read, decided, written and confirmed."""
        if not self._ready:
            self._ready = True
            self._socket.notify("READY=1")
        self._socket.notify(f"WATCHDOG=1\nSTATUS={text}")

    def stopping(self) -> None:
        """The leaving sequence has begun."""
        self._socket.notify("STOPPING=1\nSTATUS=leaving every string")
