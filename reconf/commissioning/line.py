"""Errors counted on a bus: is the line well, and if not, is it one node or the line itself? Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconf.commissioning.outcome import Finding

ALLOWED_RATE = 1e-3
"""Errors per exchange of a line that is well: RS-485 properly terminated has practically none."""
SURE = 0.01
"""Probability below which chance is ruled out."""
ONE_NODE_SHARE = 0.7
"""Of a line's errors: more than this from one unit points at that unit's plug or stub."""
ENOUGH_ERRORS = 20
"""No more are needed to be sure."""


@dataclass(frozen=True, slots=True)
class UnitCount:
    """Exchanges with one unit."""

    unit_id: int
    subject: str
    position: str
    exchanges: int
    errors: Mapping[str, int]
    """By kind of failure."""

    @property
    def failed(self) -> int:
        """All errors."""
        return sum(self.errors.values())


def too_many(errors: int, exchanges: int, rate: float = ALLOWED_RATE) -> bool:
    """Whether so many errors are beyond chance on a line with `rate` (Poisson tail below `SURE`)."""
    if errors == 0:
        return False
    mean = exchanges * rate
    fewer = sum(math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(errors))
    return 1.0 - fewer < SURE


def judge_line(gateway: str, serial: bool, counts: Sequence[UnitCount]) -> tuple[Finding, ...]:
    """Findings of one line; a few errors that chance explains are a remark.

    Args:
        gateway: its name.
        serial: an RS-485 line of ours; else the one behind a TCP gateway.
        counts: of every unit that was asked.
    """
    exchanges, errors = sum(c.exchanges for c in counts), sum(c.failed for c in counts)
    if errors == 0 or exchanges == 0:
        return ()
    kinds: dict[str, int] = {}
    for c in counts:
        for kind, n in c.errors.items():
            kinds[kind] = kinds.get(kind, 0) + n
    told = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in sorted(kinds.items()))
    expected = f"at most {ALLOWED_RATE:.1%} errors"
    found = f"{errors} of {exchanges} exchanges failed ({errors / exchanges:.1%}): {told}"
    if not too_many(errors, exchanges):
        return (Finding(gateway, "", expected, found, "watch it; no more than chance explains", fault=False),)
    worst = max(counts, key=lambda c: c.failed)
    if len(counts) > 1 and worst.failed >= ONE_NODE_SHARE * errors:
        unit = worst.unit_id
        remedy = f"nearly all from unit {unit}: its plug, its stub, its supply, or a second node with its id"
        return (Finding(worst.subject, worst.position, expected, found, remedy),)
    line = "the line" if serial else "the RS-485 line behind the gateway"
    remedy = (
        f"errors are spread over the units, so it is {line}: 120 ohm at both ends and nowhere else, "
        "a pair that is twisted, shield and common connected, no star"
    )
    return (Finding(gateway, "", expected, found, remedy),)
