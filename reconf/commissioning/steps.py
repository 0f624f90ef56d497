"""The steps of commissioning as one table, in the order in which they are done.

Reading comes before writing, still before moving, and nothing that carries current before every switch and
watchdog of its string is proven. A module or string with a fault in a step that another one needs is left
out there and told as not tried.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One row."""

    step: str
    title: str
    text: str
    """What is done and what passes."""
    writes: str = ""
    """What is written to whom; empty: it only reads."""
    needs: tuple[str, ...] = ()
    """Steps whose faults exclude a module (and with it, where current flows, its string)."""
    on_strings: bool = False
    """Strings are tried, not modules: one module with a fault keeps its string out."""


STEPS = (
    Step(
        "answers",
        "every node answers",
        "Each node of the site file answers as the right device with map version 1; a missing module is "
        "looked for under other unit ids. Every contactor reads open, and nobody else feeds a heartbeat.",
    ),
    Step(
        "identity",
        "serial matches position",
        "SERIAL, N_CELLS, CHEMISTRY and RATED_CAPACITY are those of the site file.",
        needs=("answers",),
    ),
    Step(
        "line",
        "bus is quiet",
        "Requests and answers are counted on every line: more than one error in a thousand fails.",
        needs=("answers",),
    ),
    Step(
        "voltage",
        "polarity and voltage",
        "Every cell group reads a plausible voltage, their sum is MODULE_VOLTAGE, no sensing fault, no trip.",
        needs=("answers",),
    ),
    Step(
        "temperature",
        "sensors agree at rest",
        "After rest every sensor lies on the straight line fitted through its rack, within 1 K.",
        needs=("answers",),
    ),
    Step(
        "latches",
        "latches clear",
        "WATCHDOG is set (converters before modules), command registers are zeroed, read back, then CLEAR.",
        "every node: WATCHDOG (RM1 6.0 s, RC1 3.0 s), HEARTBEAT, command registers to 0, CLEAR",
        needs=("answers", "line"),
    ),
    Step(
        "switch",
        "switch works both ways",
        "With the contactor open each module is inserted over two others and bypassed again: STRING_VOLTAGE "
        "must rise and fall by its voltage.",
        "one module after another: INSERT 1, INSERT 0, at most three together; contactor stays open, MODE 0",
        needs=("answers", "line", "latches"),
    ),
    Step(
        "watchdog",
        "watchdog really bypasses",
        "Modules are inserted three at a time with the contactor open, their heartbeat stops: each must "
        "latch and leave the string within its time, which STRING_VOLTAGE shows. Then cleared in safe order.",
        "three modules at a time: INSERT 1, no HEARTBEAT; then command registers to 0, CLEAR",
        needs=("answers", "line", "latches", "voltage", "switch"),
    ),
    Step(
        "trim",
        "trim moves current",
        "Bypassed and with the contactor open, every second module gives and the others take, then the other "
        "way round: TRIM_CURRENT and MODULE_CURRENT must show it.",
        "all modules with a trim converter: TRIM_CURRENT_SETPOINT for a few seconds, then 0",
        needs=("answers", "identity", "line", "latches", "voltage", "switch"),
    ),
    Step(
        "contactor",
        "contactor precharges",
        "String by string: modules inserted into the window, voltage checked against their sum, precharge, "
        "contactor read back closed and the link at the string's voltage.",
        "one string at a time: INSERT 1, STRING_CURRENT_LIMIT, CONTACTOR 1",
        needs=("answers", "identity", "line", "latches", "voltage", "switch", "watchdog"),
        on_strings=True,
    ),
    Step(
        "power",
        "converter follows",
        "A small power set point, discharging then charging: POWER follows, and the current of every "
        "inserted module is the string's.",
        "one string at a time: MODE 1, POWER_SETPOINT within 5 % of C and 10 % of the rating, then 0, MODE 0",
        needs=("answers", "identity", "line", "latches", "voltage", "switch", "watchdog", "contactor"),
        on_strings=True,
    ),
    Step(
        "converter_watchdog",
        "converter stops by itself",
        "With the contactor closed at MODE 0 the converter's heartbeat stops: it must open its contactor "
        "within its watchdog, before any module's.",
        "one string at a time: no HEARTBEAT to the converter; modules bypassed once it reads open; CLEAR",
        needs=("answers", "identity", "line", "latches", "voltage", "switch", "watchdog", "contactor"),
        on_strings=True,
    ),
)
STEP_OF = {s.step: s for s in STEPS}
