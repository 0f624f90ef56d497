"""What may be written while a site is proven: one table, one sentence a rule.

They stand beside the rules of `reconf.verify`, which judge everything that can carry current (trim, closing,
power); what moves switches behind an open contactor is judged by these alone, because faulty modules, of
which no estimate exists, are what is looked for there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Trial(Enum):
    """What a written state is for."""

    SWITCHES = auto()
    """Switches moved behind open contactors."""
    TRIM = auto()
    """Trim currents between bypassed modules behind open contactors."""
    CONNECT = auto()
    """Joining, small power, leaving; one string."""


@dataclass(frozen=True, slots=True)
class TrialRule:
    """One rule."""

    rule: str
    trials: frozenset[Trial]
    unit: str
    text: str
    """What is wrong when it is broken."""


OPEN = frozenset({Trial.SWITCHES, Trial.TRIM})
JOINING = frozenset({Trial.CONNECT})
EVERY = frozenset(Trial)

TRIAL_RULES: dict[str, TrialRule] = {
    r.rule: r
    for r in (
        TrialRule("trial_shape", EVERY, "elements", "an array of the command has the wrong size"),
        TrialRule("trial_numbers", EVERY, "", "a number of the command is not finite"),
        TrialRule("trial_contactor", OPEN, "1", "the contactor is not freshly read open"),
        TrialRule("trial_link", OPEN, "V", "the link is live behind an open contactor: it may be welded"),
        TrialRule("trial_off", OPEN, "1", "power, a mode or a closed contactor would be asked"),
        TrialRule("trial_duty", EVERY, "1", "a node would run a duty by itself"),
        TrialRule("trial_stale", EVERY, "1", "a module would be switched in that does not answer"),
        TrialRule("trial_latched", EVERY, "1", "a module would be switched in whose latch stands"),
        TrialRule("trial_watchdog", EVERY, "s", "a node would be moved whose watchdog is not as it must be"),
        TrialRule("trial_together", OPEN, "modules", "more modules would be inserted than a trial needs"),
        TrialRule("trial_voltage", OPEN, "V", "more voltage would appear than a trial needs"),
        TrialRule("trial_still", OPEN, "1", "switches and trim would be tried at the same time"),
        TrialRule("trial_trim", frozenset({Trial.TRIM}), "A", "more trim current than a trial needs"),
        TrialRule("trial_one_string", JOINING, "strings", "more than one string would be joined"),
        TrialRule("trial_power", JOINING, "W", "more power than a trial needs"),
        TrialRule("trial_current", JOINING, "A", "a current limit beyond what a trial needs"),
        TrialRule("trial_faulty", JOINING, "1", "a string with a faulty module would be joined"),
    )
}  # fmt: skip
