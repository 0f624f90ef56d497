"""Three clocks: control time, wall time, and UTC as a label.

Control time drives physics, ramps, ticks, slots and intervals; against a twin it may run faster than
life. Wall time drives watchdogs, heartbeats, time-outs and back-off. Both are monotonic: setting the
machine's date moves neither. UTC only labels records and is compared with the times in commands.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from reconf.errors import ConfigError

TIME_ERROR = 5
"""Return value of adjtimex(2): the kernel's clock is not synchronised."""

_TIMEX_BYTES = 512
"""Room for `struct timex` (208 bytes on 64-bit Linux) with mode 0: read only."""


class Clock(Protocol):
    """What the daemon needs to know of time."""

    @property
    def scale(self) -> float:
        """Control seconds per wall second."""

    def control_s(self) -> float:
        """Control time since start [s], monotonic, possibly scaled."""

    def wall_s(self) -> float:
        """Monotonic wall time [s]."""

    def utc(self) -> datetime:
        """The machine's date, a label that may jump."""


@dataclass(frozen=True, slots=True)
class ScaledClock:
    """The machine's clocks, control time running `scale` times faster than life."""

    scale: float = 1.0
    monotonic: Callable[[], float] = time.monotonic
    date: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    started_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if not 0.0 < self.scale <= 100_000.0:
            raise ConfigError(f"time scale {self.scale}: must be above 0 and at most 100000")

    def control_s(self) -> float:
        """Control time since start [s]."""
        return (self.monotonic() - self.started_s) * self.scale

    def wall_s(self) -> float:
        """Monotonic wall time [s]."""
        return self.monotonic()

    def utc(self) -> datetime:
        """The machine's date."""
        return self.date()


def wall_deadline_s(expires_at: datetime, utc: datetime, wall_s: float) -> float:
    """Turn a UTC expiry into a monotonic deadline [s wall], once, on receipt.

    Whatever the date does afterwards, the deadline stands.
    """
    return wall_s + (expires_at - utc) / timedelta(seconds=1)


def kernel_synchronised() -> bool:
    """Whether the kernel believes its clock (adjtimex(2), read only); False where it cannot be asked."""
    try:
        answer = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    except (OSError, AttributeError):
        return False
    return 0 <= answer < TIME_ERROR


def has_real_time_clock(root: Path = Path("/sys/class/rtc")) -> bool:
    """Whether the machine keeps the date without power (a bare Raspberry Pi does not)."""
    return root.is_dir() and any(root.iterdir())


def date_trusted(setting: str, *, commands_local: bool) -> bool:
    """Whether times in commands may be compared with this machine's date.

    `auto` trusts a synchronised kernel, a battery-backed clock, or commands that can only have been
    stamped by this same clock (a broker on a loopback address): an expiry compared with the clock that
    wrote it is right even where that clock is wrong.
    """
    if setting in {"trusted", "untrusted"}:
        return setting == "trusted"
    if setting != "auto":
        raise ConfigError(f"clock {setting!r}: must be auto, trusted or untrusted")
    return commands_local or kernel_synchronised() or has_real_time_clock()
