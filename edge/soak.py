"""The long campaigns as a table: what runs, which figure counts, what it must reach."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconf.errors import ReconfError


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign."""

    name: str
    command: tuple[str, ...]
    """Arguments of `reconf`."""
    wanted: str
    """What it must reach, in words."""
    reached: Callable[[Mapping[str, Any]], bool]
    told: tuple[str, ...]
    """Keys of its JSON that the table shows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a campaign gave."""

    campaign: Campaign
    ok: bool
    figures: Mapping[str, Any]
    seconds: float
    text: str = ""


class CampaignError(ReconfError):
    """A campaign gave no figures."""


def _bench(*parts: str) -> tuple[str, ...]:
    return ("bench", *parts, "--json", "-")


CAMPAIGNS: tuple[Campaign, ...] = (
    Campaign(
        "demo", ("demo", "--once", "--json", "-"), "utilisation >= 0.95, no violation, no fallback",
        lambda f: f["utilisation"] >= 0.95 and f["violations"] == 0 and f["fallback_intervals"] == 0,
        ("utilisation", "violations", "fallback_intervals"),
    ),
    Campaign(
        "control over TCP", _bench("control", "--seconds", "120"), "tick p99 below 20 % of a second",
        lambda f: f["tick_ms_p99"] < 200 * f["tick_s"] and f["solve_ms_p99"] < 200 and f["pss_mib"] < 350,
        ("tick_ms_p99", "solve_ms_p99", "pss_mib"),
    ),
    Campaign(
        "control over RTU", _bench("control", "--site", "leaf_yard", "--seconds", "120"),
        "tick p99 below 80 % of the tick", lambda f: f["tick_ms_p99"] < 800.0 * f["tick_s"],
        ("tick_ms_p99", "wire_share"),
    ),
    Campaign(
        "hostile plans", _bench("hostile", "--plans", "1000000"), "none accepted that harms, no wall",
        lambda f: f["accepted_harmful"] == 0 and f["refused_harmless_share"] <= 0.05,
        ("plans", "accepted", "accepted_harmful", "refused_harmless_share"),
    ),
    Campaign(
        "reaction on the wire", _bench("reaction", "--trials", "2000"), "p99.9 below 1.2 ticks",
        lambda f: f["unanswered"] == 0 and f["reaction_ticks_p999"] < 1.2,
        ("trials", "reaction_ticks_p50", "reaction_ticks_p999"),
    ),
    Campaign(
        "fault catalogue with pairs", _bench("faults"), "no safety violation",
        lambda f: f["safety_violations"] == 0, ("safety_violations",),
    ),
    *(
        Campaign(
            f"duty {duty}, a year at 60 s", _bench("duty", "--duty", duty), "the whole year, no violation",
            lambda f: f["violations"] == 0 and f["complete"] and f["days"] > 350.0,
            ("days", "ticks", "violations", "energy_ratio_to_clairvoyant"),
        )
        for duty in ("peak_shaving", "frequency")
    ),
    Campaign(
        "duty cold", _bench("duty", "--duty", "cold"), "no violation", lambda f: f["violations"] == 0,
        ("hours", "violations", "energy_ratio_to_clairvoyant"),
    ),
    Campaign(
        "duty desert", _bench("duty", "--duty", "desert", "--tick-s", "10"),
        "no violation, derating costs below 2 %",
        lambda f: f["violations"] == 0 and f["energy_ratio_to_clairvoyant"] >= 0.98,
        ("hours", "violations", "energy_ratio_to_clairvoyant", "hottest_core_degc"),
    ),
    *(
        Campaign(
            f"duty frequency, a day in {season} at 1 s",
            _bench("duty", "--duty", "frequency", "--season", season, "--days", "1", "--tick-s", "1"),
            "no violation", lambda f: f["violations"] == 0,
            ("hours", "violations", "energy_ratio_to_clairvoyant"),
        )
        for season in ("winter", "spring", "summer", "autumn")
    ),
    Campaign(
        "plating guard against PyBaMM", _bench("plating"), "DFN never below 0 V, below 20 % given up",
        lambda f: f["worst"]["min_dfn_mv"] >= 0.0 and f["worst"]["given_up_frac"] < 0.2 and not f["unsolved"],
        ("worst", "envelope_cost"),
    ),
    Campaign(
        "energy of the policies", _bench("energy", "--seeds", "10"), "no violation",
        lambda f: f["violations"] == 0, ("clairvoyant_ratio", "violations"),
    ),
    Campaign(
        "hostile commands", _bench("fuzz", "--messages", "1000000", "--over-broker", "50000"),
        "none accepted",
        lambda f: f["accepted_hostile"] == 0 and f["honest_accepted"],
        ("messages", "published", "accepted_hostile"),
    ),
    *(
        Campaign(
            f"a day without broker, outbox of {rows}", _bench("outage", "--outbox-rows", str(rows)),
            "all arrives late and in order, or the gap says what is missing",
            lambda f: f["missing"] == f["gap_told"] == max(0, f["messages"] - f["outbox_rows"])
            and f["out_of_order"] == f["not_marked_late"] == 0 and f["gap_covers_missing"],
            ("messages", "arrived", "gap_told", "drained_s"),
        )
        for rows in (200_000, 20_000)
    ),
    Campaign(
        "commissioning of the demo site", _bench("commissioning", "--seeds", "3"),
        "healthy passes, every fault is found, nobody else is accused",
        lambda f: f["healthy_passed"] == f["healthy_runs"] and f["faults_found"] == f["fault_runs"]
        and f["false_alarms"] == f["unsafe"] == 0,
        ("healthy_passed", "faults_found", "fault_runs", "false_alarms"),
    ),
    Campaign(
        "kills of broker and edge", _bench("kills", "--kills", "1000"), "nothing acknowledged is lost",
        lambda f: f["lost_acknowledged"] == f["reply_changed"] == f["unanswered"] == 0,
        ("kills", "acknowledged", "lost_acknowledged"),
    ),
    Campaign(
        "commands", _bench("command"), "reply p99 below 50 ms, first write within a tick",
        lambda f: f["reply_ms_p99"] < 50.0 and f["set_power_to_write_ms_max"] < f["tick_ms"],
        ("reply_ms_p99", "set_power_to_write_ms_max", "emergency_stop_to_safe_write_ms"),
    ),
    Campaign(
        "hostile traffic", _bench("flood", "--seconds", "60", "--rate", "10000"),
        "nothing hostile accepted, tick p99 below a fifth of the tick and twice the quiet one",
        lambda f: f["accepted_hostile"] == 0
        and f["tick_ms_p99_flood"] < min(0.2 * f["tick_ms"], 2.0 * f["tick_ms_p99_quiet"]),
        ("tick_ms_p99_quiet", "tick_ms_p99_flood", "accepted_hostile", "stop_to_safe_write_ms_flood"),
    ),
)  # fmt: skip


TESTS = Campaign(
    "tests marked soak", ("-m", "soak", "--timeout", "86400", "tests"), "all pass", lambda f: f["exit"] == 0,
    ("exit",),
)  # fmt: skip
"""The tests that are marked as long: arguments of pytest instead of `reconf`."""


def chosen(only: Sequence[str]) -> tuple[Campaign, ...]:
    """Every campaign, or those named by `only`, in whole or in part; none where nothing fits."""
    every = (*CAMPAIGNS, TESTS)
    names = {c.name for c in every}

    def fits(name: str) -> bool:
        return any(part == name if part in names else part in name for part in only)

    return tuple(c for c in every if not only or fits(c.name))


def run(campaign: Campaign) -> Outcome:
    """Run one campaign in a process of its own; whatever goes wrong with it is an outcome."""
    began = time.perf_counter()
    figures: Mapping[str, Any] = {}
    try:
        figures = _tested(campaign.command) if campaign is TESTS else _figures(campaign.command)
        ok, text = bool(campaign.reached(figures)), ""
    except (CampaignError, KeyError, TypeError) as error:
        ok, text = False, f"{type(error).__name__}: {error}"
    return Outcome(campaign, ok, figures, time.perf_counter() - began, text)


def _tested(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Exit code of pytest; its words go to stderr."""
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    return {"exit": subprocess.run(command, stdout=sys.stderr, check=False).returncode}  # noqa: S603 - our own tests


def _figures(command: Sequence[str]) -> Mapping[str, Any]:
    """What a command of `reconf` gave as JSON; a command that ends with an error reaches nothing.

    Raises:
        CampaignError: no figures came, or it ended with an error.
    """
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "edge.cli", *command], stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        figures: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise CampaignError(f"exit {done.returncode}, no figures") from error
    if done.returncode != 0:
        raise CampaignError(f"exit {done.returncode} after {json.dumps(figures)[:200]}")
    return figures
