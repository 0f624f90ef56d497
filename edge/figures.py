"""What the daemon measures of itself, as plain data."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edge.supervisor import Daemon

RECENT_TICKS = 2_000
"""Ticks whose times are told one by one, so that a window of a run can be looked at."""


@dataclass(frozen=True, slots=True)
class Stamps:
    """Wall times [s] at which the stages of one tick were over."""

    began_s: float
    read_s: float
    decided_s: float
    acted_s: float
    """Watchdog times and latches written, before commands."""
    written_s: float


@dataclass(slots=True)
class Figures:
    """What the daemon measures of itself."""

    tick_ms: deque[float] = field(default_factory=lambda: deque(maxlen=20_000))
    core_ms: deque[float] = field(default_factory=lambda: deque(maxlen=20_000))
    read_ms: deque[float] = field(default_factory=lambda: deque(maxlen=20_000))
    write_ms: deque[float] = field(default_factory=lambda: deque(maxlen=20_000))
    solve_ms: deque[float] = field(default_factory=lambda: deque(maxlen=5_000))
    """Round trip to the worker."""
    stamps: deque[Stamps] = field(default_factory=lambda: deque(maxlen=100))
    """Stages of the last ticks."""
    ticks: int = 0
    overruns: int = 0
    """Ticks that were skipped because the one before took too long."""
    failed_ticks: int = 0
    reads_before: int = 0
    forgotten_s: float = float("nan")
    """Wall time of the last `forget`."""

    def forget(self, reads: int = 0, wall_s: float = float("nan")) -> None:
        """Begin to measure anew."""
        for series in (self.tick_ms, self.core_ms, self.read_ms, self.write_ms, self.solve_ms):
            series.clear()
        self.overruns = 0
        self.reads_before, self.forgotten_s = reads, wall_s


def percentile(values: Iterable[float], share: float) -> float:
    """Percentile of `values`, NaN of none."""
    array = np.fromiter(values, dtype=np.float64)
    return float(np.percentile(array, share)) if array.size else float("nan")


def pss_mib(pid: int) -> float:
    """Proportional set size of a process [MiB]: shared pages are counted in shares."""
    import psutil

    try:
        return float(psutil.Process(pid).memory_full_info().pss) / 2**20
    except psutil.Error:
        return float("nan")


def report(daemon: Daemon) -> dict[str, Any]:
    """Ticks, solves, memory, wire."""
    import os

    figures, stats = daemon.figures, daemon.parts.south.stats
    book = daemon.core.state.book
    worker = daemon.parts.worker.pid
    return {
        "ticks": figures.ticks,
        "overruns": figures.overruns,
        "failed_ticks": figures.failed_ticks,
        "tick_ms_p50": percentile(figures.tick_ms, 50),
        "tick_ms_p99": percentile(figures.tick_ms, 99),
        "tick_ms_recent": [round(ms, 2) for ms in list(figures.tick_ms)[-RECENT_TICKS:]],
        "read_ms_p50": percentile(figures.read_ms, 50),
        "core_ms_p50": percentile(figures.core_ms, 50),
        "write_ms_p50": percentile(figures.write_ms, 50),
        "solve_ms_p50": percentile(figures.solve_ms, 50),
        "solve_ms_p99": percentile(figures.solve_ms, 99),
        "intervals": book.interval,
        "fallback_intervals": book.fallback_intervals,
        "worker_restarts": daemon.parts.worker.restarts,
        "pss_mib": pss_mib(os.getpid()) + (pss_mib(worker) if worker else 0.0),
        "modbus_reads": stats.reads,
        "modbus_writes": stats.writes,
    }
