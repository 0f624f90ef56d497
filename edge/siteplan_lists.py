"""Wiring list and checklist of a planned site, as rows of text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from edge.siteplan import FUSE_FACTOR, Place
from reconf.site import Site

WIRING_HEAD = (
    "position",
    "string",
    "gateway",
    "unit id",
    "serial",
    "rest V at 50 %",
    "+ goes to",
    "- goes to",
)


def wiring_rows(where: Sequence[Place]) -> list[tuple[str, ...]]:
    """One row per module: where it sits and where its terminals go."""
    rows: list[tuple[str, ...]] = [WIRING_HEAD]
    for i, place in enumerate(where):
        first = i == 0 or where[i - 1].string != place.string
        last = i == len(where) - 1 or where[i + 1].string != place.string
        plus = f"RC1 {place.string} +" if last else f"{where[i + 1].label} -"
        minus = f"RC1 {place.string} -" if first else f"{where[i - 1].label} +"
        rows += [
            (
                place.label,
                place.string,
                place.gateway,
                str(place.unit_id),
                serial,
                f"{place.voltage_v:.1f}",
                plus,
                minus,
            )
            for serial in place.serials
        ]
    return rows


def wiring_csv(where: Sequence[Place]) -> str:
    """The wiring list as CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(wiring_rows(where))
    return out.getvalue()


def checklist(site: Site) -> list[str]:
    """What is done, in this order, before the site runs for the first time."""
    highest = max(s.converter.voltage_max_v for s in site.strings)
    fuses = ", ".join(f"{s.name} {FUSE_FACTOR * s.converter.current_rating_a:g} A" for s in site.strings)
    return [
        f"Two people; insulated tools and gloves for {highest:.0f} V DC; all DC disconnects open and locked",
        "Each module: the serial on it is the serial on its label and in the wiring list",
        "Each module: terminal voltage and polarity measured and noted; like its neighbours' of one kind",
        "Each module: no dent, no smell, no liquid; terminals clean; torque as its maker says, marked",
        f"Fuses fitted: {fuses}",
        "Insulation of each string to the rack measured before closing: at least 500 ohm per volt",
        "Bus terminated at both ends; every node answers under its unit id and with its serial",
        "Each switch works both ways with the contactor open; the node bypasses when its watchdog runs out",
        "Each string precharges before its contactor closes; its converter follows a small set point",
        "Emergency stop opens every string contactor",
        "Disconnects unlocked; the first full discharge and charge watched to their end",
    ]
