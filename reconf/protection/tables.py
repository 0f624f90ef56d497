"""The limit and fault tables as Markdown: docs/limits.md and docs/faults.md are made here."""

from __future__ import annotations

from collections.abc import Iterable

from reconf.protection.faults import SCOPES, FaultRow, RuleNumbers, fault_rows, rule_numbers
from reconf.protection.limits import LimitRow, LimitTable, default_limits, limits_data, site_limits

CHEMISTRIES = ("LMO", "NMC", "LFP", "NCA")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    columns = list(head)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _limit_cells(row: LimitRow) -> tuple[str, ...]:
    numbers = (row.operating, row.recommended, row.safety, row.hysteresis, row.debounce_s)
    return (f"`{row.quantity}`", row.side, *(f"{n:g}" for n in numbers), row.consequence)


def _limit_table(table: LimitTable) -> str:
    head = (
        "quantity",
        "side",
        "operating",
        "recommended",
        "safety",
        "hysteresis",
        "debounce [s]",
        "past safety",
    )
    return _table(head, (_limit_cells(row) for row in table.values()))


LIMITS_HEAD = """\
Generated from `reconf/protection/data/limits.yaml`; a site file may replace rows per chemistry (safety and
its debounce: tighter only).
The allocator plans inside *operating*; between operating and *recommended* currents are derated to zero
and an alarm begins; passing *safety* raises a fault (docs/faults.md). The ending of a quantity is its unit;
`_c` is ampere per ampere-hour of present capacity, so those limits shrink as a module ages."""

FAULTS_HEAD = """\
Generated from `reconf/protection/data/faults.yaml`. Severities: *warn* tells, *derate* reduces current,
*bypass* takes the module out, *open_string* asks for the string to be left, *open_site* for all of them.
A latched fault stays until an operator clears it, which is refused while its cause persists; faults that
open the site are cleared on site only. In `run` and `standby` a string joins again at once when the last
fault that opened it is cleared: whoever works at it holds the maintenance lock."""

STATES = """\
```mermaid
stateDiagram-v2
    [*] --> quiet
    quiet --> active: condition there for debounce
    active --> quiet: gone for release, does not latch
    active --> latched: gone for release, latches
    latched --> active: condition there for debounce
    latched --> quiet: cleared
```"""


def limits_markdown() -> str:
    """docs/limits.md."""
    parts = ["# Limits", LIMITS_HEAD]
    for chemistry in CHEMISTRIES:
        parts += [f"## {chemistry}", _limit_table(default_limits(chemistry))]
    parts += [
        "## Strings, converters and the site",
        "`_frac` is a share of the converter's rating.",
        _limit_table(site_limits()),
        "## Sources",
        "\n".join(f"* {name}: {text}" for name, text in limits_data()["sources"].items()),
    ]
    return "\n\n".join(parts) + "\n"


def _raised_by(row: FaultRow) -> str:
    if row.limit is None:
        return row.meaning
    quantity, side, tier = row.limit
    return f"{row.meaning} (`{quantity}` {side}, {tier})"


def _fault_cells(row: FaultRow) -> tuple[str, ...]:
    debounce = "of the limit" if row.debounce_s is None else f"{row.debounce_s:g}"
    latching = {"none": "no", "latch": "yes", "lockout": "for ever"}[row.latching]
    return (
        f"`{row.fault}`",
        _raised_by(row),
        row.severity,
        debounce,
        f"{row.release_s:g}",
        latching,
        row.clear,
        row.text,
        row.action,
    )


def faults_markdown() -> str:
    """docs/faults.md."""
    numbers = rule_numbers()
    head = (
        "fault",
        "raised when",
        "severity",
        "debounce [s]",
        "release [s]",
        "latches",
        "may be cleared when",
        "the operator reads",
        "and does",
    )
    parts = ["# Faults", FAULTS_HEAD, STATES]
    for scope in SCOPES:
        parts += [
            f"## Faults of a {scope}",
            _table(head, (_fault_cells(row) for row in fault_rows(scope))),
        ]
    parts += ["## Numbers of the rules", "\n".join(f"* {line}" for line in _rule_lines(numbers))]
    return "\n\n".join(parts) + "\n"


def _runaway_words(numbers: RuleNumbers) -> str:
    """How a rise and a fall are measured."""
    memory_s, slack_k = numbers.runaway_memory_s, numbers.runaway_slack_k
    return (
        f"The rise is followed from its beginning and may fall behind by {slack_k:g} K (sampling); of a jump "
        f"only {numbers.runaway_step_k_per_s:g} K/s count; a cell is held against its highest of the last "
        f"{memory_s:g} to {2 * memory_s:g} s, whichever sign comes first. Steady: no sensor more than "
        f"{numbers.runaway_steady_k:g} K above its lowest."
    )


def _rule_lines(numbers: RuleNumbers) -> tuple[str, ...]:
    """What the conditions in code use."""
    drop, apart = 100 * numbers.runaway_voltage_drop_frac, 100 * numbers.discrepancy_frac
    rising = f"{numbers.runaway_rate_k_per_s:g} K/s for {numbers.runaway_for_s:g} s"
    together = f"a cell voltage down by {drop:g} % or a temperature above its safety maximum"
    exposed = f"a cell seen below {numbers.copper_exposure_v:g} V"
    return (
        f"Beginning runaway: {rising}, together with {together}. {_runaway_words(numbers)}",
        f"Copper: {exposed}, or reading 0 V after having been below its safety minimum.",
        f"A cell that reads at most {numbers.reversed_v:g} V is reversed, or its sense wire is open.",
        f"Silent: no whole block for {numbers.stale_ticks:g} ticks.",
        f"String voltage implausible: {apart:g} % of the window away from the sum of its inserted modules.",
        f"Takes no writes: {numbers.refused_writes} ticks in a row in which it answered and refused.",
        f"Refused plans: {numbers.refused_plans} in a row; by verify: for {numbers.refused_ticks} ticks.",
        f"The bus counts as back once {100 * numbers.bus_margin_frac:g} % inside its window.",
    )
