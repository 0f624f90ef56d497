"""The site's mode machine as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class SiteMode(StrEnum):
    """What the site is doing."""

    OFF = "off"
    """Strings open (or being left); nothing closes."""
    PRECHARGE = "precharge"
    """Strings are joining; no power."""
    STANDBY = "standby"
    """Strings connected, converters at MODE 0."""
    RUN = "run"
    """Power as asked."""
    MAINTENANCE = "maintenance"
    """Strings left; taken and released on site only."""
    FAULT = "fault"
    """An open-site fault: every string is left; only an operator's clear leads out."""
    ESTOP = "emergency_stop"
    """Emergency stop, latched: every string is left; only an operator's clear leads out."""


CONNECTING = frozenset({SiteMode.PRECHARGE, SiteMode.STANDBY, SiteMode.RUN})
"""Modes in which strings may join; in all others they are left."""


@dataclass(frozen=True, slots=True)
class ModeRow:
    """From any of `sources`, when `when` holds, to `target`; the first row that holds wins."""

    sources: frozenset[SiteMode]
    when: str
    target: SiteMode
    why: str


ALL = frozenset(SiteMode)
HELD = frozenset({SiteMode.FAULT, SiteMode.ESTOP})

MODE_TABLE: tuple[ModeRow, ...] = (
    ModeRow(ALL - {SiteMode.ESTOP}, "emergency_stop", SiteMode.ESTOP, "emergency stop"),
    ModeRow(ALL - HELD, "site_open", SiteMode.FAULT, "a fault that opens the site"),
    ModeRow(HELD, "cleared", SiteMode.OFF, "cleared by an operator, the cause is gone"),
    ModeRow(ALL - HELD - {SiteMode.MAINTENANCE}, "locked", SiteMode.MAINTENANCE, "taken on site"),
    ModeRow(frozenset({SiteMode.MAINTENANCE}), "unlocked", SiteMode.OFF, "released on site"),
    ModeRow(CONNECTING, "want_off", SiteMode.OFF, "stop asked"),
    ModeRow(frozenset({SiteMode.OFF}), "want_connect", SiteMode.PRECHARGE, "start asked"),
    ModeRow(frozenset({SiteMode.PRECHARGE}), "joined_run", SiteMode.RUN, "strings joined"),
    ModeRow(frozenset({SiteMode.PRECHARGE}), "joined_standby", SiteMode.STANDBY, "strings joined"),
    ModeRow(frozenset({SiteMode.STANDBY}), "want_run", SiteMode.RUN, "run asked"),
    ModeRow(frozenset({SiteMode.RUN}), "want_standby", SiteMode.STANDBY, "standby asked"),
)
"""Every way from one mode to another."""


def next_mode(mode: SiteMode, conditions: Mapping[str, bool]) -> tuple[SiteMode, str]:
    """Mode after one tick and why (empty when it stays)."""
    for row in MODE_TABLE:
        if mode in row.sources and conditions[row.when]:
            return row.target, row.why
    return mode, ""
