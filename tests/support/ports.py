"""A port for a server that starts a little later, or is killed and started again."""

from __future__ import annotations

import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 10_000
ENOUGH = 1_000


def free_port() -> int:
    """A loopback port that nobody has now, and that the kernel gives to nobody who asks for any port.

    One of those it gives away may be taken before its server is up by any connection that anybody on the
    machine opens; and a client that tries again and again to reach such a port can come out on it itself, and
    is then connected to nobody but itself.
    """
    given_from = int(RANGE.read_text(encoding="ascii").split()[0]) if RANGE.exists() else 0
    ours = range(LOWEST, given_from)
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", random.SystemRandom().choice(ours) if len(ours) > ENOUGH else 0))
            except OSError:
                continue
            return int(probe.getsockname()[1])
