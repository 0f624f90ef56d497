"""How much of a refused proposal is tried next: string by string, from what verify found.

Most rules are kept by less current. Some are proportional to it, so that the first refusal tells the share
that fits. Of the others two refusals at two shares tell how the gap to the limit closes, and the next share
is where it would be closed. What no less of anything mends is given up at once; other strings keep their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.actuation import Refused, Violation
from reconf.arrays import BoolArray, FloatArray
from reconf.site import Site

TRIES: Final = 6
"""Proposals of less power that are verified in one tick, at most."""
FIRST_SHARE: Final = 0.85
"""Of what was refused, where nothing tells yet how much less is needed; also the most that is tried next."""
SMALLEST_STEP: Final = 0.2
"""The least of what was refused that is tried next: a line through two points may miss a bend."""
LEAST_SHARE: Final = 0.02
"""Less than this of a proposal is 0."""
SURE_FRAC: Final = 0.98
"""Of the share that was worked out: currents follow power only nearly in proportion."""

PROPORTIONAL: Final = frozenset(
    {
        "module_discharge", "module_charge", "subset_discharge", "subset_charge", "charge_left",
        "charge_room", "converter_power", "converter_current",
    }
)  # fmt: skip
"""Rules whose value goes with the current or the power asked."""
CLOSING: Final = frozenset(
    {
        "sum_discharge", "sum_charge", "cell_voltage_min", "cell_voltage_max", "window_min",
        "window_max", "subset_window_min", "subset_window_max", "temperature_max",
        "charge_temperature", "ramp",
    }
)  # fmt: skip
"""Rules that less current may keep: their value has a part that stays."""
MOVING: Final = frozenset({"dwell", "switch_count", "stale_module", "unknown_voltage"})
"""Rules that are kept where no switch is moved."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A proposal in shares, and what it was refused for; nothing refused stands for nothing tried yet."""

    share: FloatArray
    """(S,) of the power first proposed."""
    still: BoolArray
    """(S,) without trim."""
    stay: BoolArray
    """(S,) with the switches as they stand."""
    gaps: dict[tuple[int, str, str], float]
    """Found less allowed, by string, rule and subject."""
    at: FloatArray
    """(S,) share at which the gaps of each string were found."""

    @classmethod
    def nothing(cls, n_strings: int) -> Tried:
        """Before the first refusal: all of everything."""
        no = np.zeros(n_strings, dtype=np.bool_)
        return cls(np.ones(n_strings), no, no, {}, np.ones(n_strings))


def strings_named(site: Site, violation: Violation) -> Iterable[int]:
    """Places of the strings that a violation names, by their own name or by a module's; all for the site."""
    names = [s.name for s in site.strings]
    if violation.subject in names:
        return (names.index(violation.subject),)
    if violation.subject in site.topology.serials:
        return (int(site.topology.string_of[site.topology.serials.index(violation.subject)]),)
    return range(len(names))


def less(site: Site, last: Tried, refused: Refused) -> Tried:
    """What to try after `last` was refused; the share of a string that nothing helps is 0."""
    share, still, stay = last.share.copy(), last.still.copy(), last.stay.copy()
    gaps, at = {}, last.at.copy()
    for violation in refused.violations:
        rule = violation.rule
        for s in strings_named(site, violation):
            gap = violation.found - violation.allowed
            gaps[s, rule, violation.subject] = gap
            if rule in MOVING and not last.stay[s]:
                stay[s] = True
            elif rule.startswith("trim_") and not last.still[s]:
                still[s] = True
            else:
                share[s] = min(share[s], _next_share(last, s, violation, gap))
                if share[s] < LEAST_SHARE and rule in CLOSING and not last.still[s]:
                    share[s], still[s] = FIRST_SHARE * last.share[s], True
            at[s] = last.share[s]
    share[share < LEAST_SHARE] = 0.0
    kept = {key: gap for key, gap in last.gaps.items() if not any(key[0] == s for s, _, _ in gaps)}
    return Tried(share, still, stay, kept | gaps, at)


def _next_share(last: Tried, s: int, violation: Violation, gap: float) -> float:
    """The share of string `s` at which `violation` should be none."""
    share, rule = float(last.share[s]), violation.rule
    if share == 0.0 or rule not in PROPORTIONAL | CLOSING:
        return 0.0
    if rule in PROPORTIONAL and 0.0 <= violation.allowed < violation.found < np.inf:
        return share * min(SURE_FRAC * violation.allowed / violation.found, FIRST_SHARE)
    before = last.gaps.get((s, rule, violation.subject))
    if before is None or last.at[s] <= share:
        return FIRST_SHARE * share
    if not abs(gap) < abs(before):
        return 0.0  # it does not come nearer
    wanted = share - abs(gap) * (float(last.at[s]) - share) / (abs(before) - abs(gap))
    return share * min(max(SURE_FRAC * wanted / share, SMALLEST_STEP), FIRST_SHARE)
