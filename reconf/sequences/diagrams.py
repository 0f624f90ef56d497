"""docs/sequences.md, drawn from the tables that run."""

from __future__ import annotations

from reconf.sequences.modes import MODE_TABLE, SiteMode
from reconf.sequences.phases import OUTPUTS, PHASE_TABLE, Phase

HEAD = """# Sequences

Everything below is drawn from the tables that run (`reconf/sequences/phases.py`,
`reconf/sequences/modes.py`) by `reconf.sequences.diagrams.markdown`; a test keeps this page current, and
model checks walk the same tables.

Two clocks come in. Control time drives what is physics: currents, contactors. Wall time drives watchdogs,
waiting times and back-off. RC1 watchdogs are written to 3.0 s and RM1 watchdogs to 6.0 s before anything
closes, so that a converter always stops before the modules beneath it bypass themselves. A node that has not
taken its own is asked again in every tick, and until it has, it is given nothing but less to do.
"""

OUTPUTS_HEAD = """What each phase commands (switches: `hold` as in force, `pattern` the joining pattern,
`proposal` the scheduler's, `bypass` all out):
"""

RULES = """## Rules around the tables

* **Heartbeats are earned**: a node gets heartbeats until the next tick only if this tick's image of it is
  fresh, the last command was verified and its last writes were confirmed. When ticks are slower than half
  the RC1 watchdog, a string that is being left gets none at all, so that the converter opens it in time
  by itself.
* **Latches**: only a watchdog latch that stands alone is cleared without a person: when a mode change
  starts the string (also one that falls between the start and the node's first heartbeat), and after 60 s
  (wall time) of good readings, three times an hour at most; a string that waits for that says so once
  (`open -> open`). Everything else waits for `clear_fault`.
* **Joining is not tried for ever**: after three joins in a row that ended without a closed contactor, or
  that a fault ended within ten minutes, the string waits for a start (`set_mode`) or for a clear of one of
  its faults, and says so once and as the fault `join_failed`.
* **Silence**: a node that is silent, or does not confirm writes, for two ticks is out of service. A
  silent module counts as inserted *and* as bypassed until its own watchdog has surely run out. A string
  is left when the modules that remain cannot reach its window.
* **Master of the bus**: without it every converter goes to MODE 0, and strings stay connected.
* **Maintenance** is a lock beside the mode machine, taken and released over the on-site door only
  (`reconf maintenance`), and persisted. While it is held nothing closes, whatever the mode: an emergency stop
  or an alarm changes the mode and leaves the lock; once cleared, the site is in MAINTENANCE again.
* **Unloaded**: a current under 1 A counts only 0.1 s after MODE 0. Ticks follow one another at once where a
  site is stopped, and what a converter tells may be from before its power rose.
* **A discharging link** is waited for before a string joins; a link that still stands 10 s after opening, or
  rises behind an open contactor, is a weld.
* **A status that calls a closed contactor open** bypasses nothing at once: where converter and modules
  measure a current through it the contactor counts as closed and the string is left in order
  (`contactor_opened`), and every bypass comes at least a tick after the contactor was commanded open.
* **Restart**: what is open stays open, whatever the mode was. What is found closed gets heartbeats and
  power 0 and stays until commanded; it is left if no plausible image of it comes within 3 s. FAULT,
  EMERGENCY_STOP and MAINTENANCE live on, and so does the lock.
* **Leaving is never refused**: verify lets every command through that only asks less of a string (power
  0, MODE 0, contactor open, no switch moved; bypassing only behind a contactor that was read open),
  whatever image, estimate and envelope say. See docs/safety-concept.md for the argument.
"""


def _phase_name(phase: Phase) -> str:
    return phase.name.lower()


def phase_diagram() -> str:
    """Life of a string as mermaid text."""
    lines = ["stateDiagram-v2", "    [*] --> open"]
    lines += [
        f"    {_phase_name(row.source)} --> {_phase_name(row.target)}: {row.when}" for row in PHASE_TABLE
    ]
    return "\n".join(lines)


def mode_diagram() -> str:
    """The site's mode machine as mermaid text."""
    lines = ["stateDiagram-v2", "    [*] --> off"]
    for row in MODE_TABLE:
        lines += [
            f"    {source.value} --> {row.target.value}: {row.when}"
            for source in SiteMode
            if source in row.sources and source is not row.target
        ]
    return "\n".join(lines)


def _phase_outputs() -> list[str]:
    lines = ["| phase | switches | contactor | power |", "|---|---|---|---|"]
    for phase, row in OUTPUTS.items():
        closed = "closed" if row.contactor else "open"
        power = "as verified" if row.power else "0, MODE 0"
        lines.append(f"| {_phase_name(phase)} | {row.switches} | {closed} | {power} |")
    return lines


def _phase_rows() -> list[str]:
    lines = ["| from | when | to | why |", "|---|---|---|---|"]
    lines += [
        f"| {_phase_name(r.source)} | `{r.when}` | {_phase_name(r.target)} | {r.why} |" for r in PHASE_TABLE
    ]
    return lines


def _mode_rows() -> list[str]:
    lines = ["| from | when | to | why |", "|---|---|---|---|"]
    for row in MODE_TABLE:
        sources = ", ".join(mode.value for mode in SiteMode if mode in row.sources)
        lines.append(f"| {sources} | `{row.when}` | {row.target.value} | {row.why} |")
    return lines


def markdown() -> str:
    """The whole page."""
    parts = [
        HEAD,
        "## The life of a string\n",
        f"```mermaid\n{phase_diagram()}\n```\n",
        OUTPUTS_HEAD,
        "\n".join(_phase_outputs()) + "\n",
        "The first row of a phase that holds wins, one row a tick:\n",
        "\n".join(_phase_rows()) + "\n",
        "## The mode of the site\n",
        f"```mermaid\n{mode_diagram()}\n```\n",
        "The first row that holds wins:\n",
        "\n".join(_mode_rows()) + "\n",
        RULES,
    ]
    return "\n".join(parts)
