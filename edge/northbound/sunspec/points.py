"""How the SunSpec server is reached, and its writable points."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SunSpecOptions:
    """How the server is reached."""

    host: str = "127.0.0.1"
    port: int = 502
    writer: str = ""
    """Address of the one client that may write; empty: read-only."""
    issuer: str = "sunspec"
    """Name of that client in the command contract."""
    max_connections: int = 16
    idle_s: float = 60.0
    """A connection that asks nothing for so long is closed."""
    frame_s: float = 3.0
    """A frame must be whole within this time of its first byte."""
    idle_kept_s: float = 5.0
    """When all places are taken, a connection that was silent for so long gives its place to a new one."""
    requests_per_s: float = 100.0
    """Of one connection; faster ones wait. The server shares its processor with control."""
    requests_burst: float = 400.0
    """A scan asks this much at once."""


@dataclass(slots=True)
class SetPointPoints:
    """The writable points as they stand."""

    enabled: bool = False
    watts: float = 0.0
    revert_s: float | None = None
    reverts_at_s: float = float("inf")
    """Wall time."""
    controller_heartbeat: int | None = None


class RefusedRequestError(Exception):
    """A request that is answered with a Modbus exception."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code
