"""Hazards (FMEA) as data: what software does against each, what hardware must do by itself, what shows it.

docs/safety-concept.md is made from this table; tests check that every rule, fault, phase and test it names
exists. S severity, O occurrence without these measures, D difficulty of detection, each 1..5 (5 worst), are
judgements for ordering the work, not measurements.
"""

from __future__ import annotations

from reconf.verify.hazard import Hazard
from reconf.verify.hazards_cells import CELL_HAZARDS
from reconf.verify.hazards_control import CONTROL_HAZARDS
from reconf.verify.hazards_site import SITE_HAZARDS

HAZARDS: tuple[Hazard, ...] = (*CELL_HAZARDS, *CONTROL_HAZARDS, *SITE_HAZARDS)
"""Those of cells and currents, of control itself, and of the place it stands in."""


def hazard_rows() -> list[str]:
    """The FMEA as lines of a Markdown table."""
    heads = (
        "hazard",
        "cause",
        "effect",
        "S",
        "O",
        "D",
        "S·O·D",
        "faults",
        "rules of verify",
        "sequences",
        "hardware must",
        "shown by",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]

    def ids(names: tuple[str, ...]) -> str:
        return ", ".join(f"`{name}`" for name in names) or "none"

    for h in HAZARDS:
        cells = [h.hazard, h.cause, h.effect, h.severity, h.occurrence, h.detection, h.number]
        cells += [ids(h.faults), ids(h.rules), h.sequence, h.hardware, ids(h.tests)]
        lines += ["| " + " | ".join(map(str, cells)) + " |"]
    return lines
