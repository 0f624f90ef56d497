"""Work of `reconf plan`: from bins to a site file, a wiring list, labels and a checklist."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconf.binning.lot import ModuleKind
from reconf.config.load import parse_site
from reconf.errors import DataFileError
from reconf.protection.limits import default_limits
from reconf.site import Chemistry

FUSE_FACTOR = 1.25
"""Fuse over converter current: a fuse carries its converter's current for ever."""
CURRENT_FACTOR = 1.5
"""Converter current over the current the energy was counted at: short peaks."""
WINDOW_SLACK_FRAC = 0.03
"""Window wider than the modules' own voltages by this, for load and tolerances."""
SERIAL_LONGEST = 16


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Options of `reconf plan`, by their names there."""

    name: str = "site"
    gateway: str = "127.0.0.1:5020"
    """`HOST:PORT` of the first string's gateway (the next strings take the next ports), or a serial device
    with `{n}` for the string's number from 0."""
    bus_v: float = 800.0
    trim_rating_a: float = 0.0
    r_on_ohm: float = 0.0005


@dataclass(frozen=True, slots=True)
class Place:
    """One position as it is wired."""

    string: str
    label: str
    gateway: str
    unit_id: int
    serials: tuple[str, ...]
    """Modules in parallel at this position."""
    kind: str
    soh_frac: float
    soh_std_frac: float
    capacity_ah: float
    resistance_scale: float
    voltage_v: float
    """Open-circuit voltage at half charge."""


def places(bins: Mapping[str, Any]) -> tuple[Place, ...]:
    """Positions in the order of the wiring."""
    volts = {name: _kind(k).voltage_v() for name, k in bins["kinds"].items()}
    found = []
    for string in bins["strings"]:
        for n, group in enumerate(string["positions"], start=1):
            capacity = sum(m["capacity_ah"] for m in group)
            weight = [m["capacity_ah"] / capacity for m in group]
            found.append(
                Place(
                    string=string["name"],
                    label=f"{string['name']}{n:02d}",
                    gateway=f"gateway-{string['name'].lower()}",
                    unit_id=n,
                    serials=tuple(m["serial"] for m in group),
                    kind=group[0]["kind"],
                    soh_frac=sum(w * m["soh_frac"] for w, m in zip(weight, group, strict=True)),
                    soh_std_frac=sum((w * m["soh_std_frac"]) ** 2 for w, m in zip(weight, group, strict=True))
                    ** 0.5,
                    capacity_ah=capacity,
                    # groups of parallel modules: conductances add
                    resistance_scale=len(group) / sum(1.0 / m["resistance_scale"] for m in group),
                    voltage_v=volts[group[0]["kind"]],
                )
            )
    return tuple(found)


def _kind(fields: Mapping[str, Any]) -> ModuleKind:
    return ModuleKind(**{**fields, "chemistry": Chemistry(fields["chemistry"])})


def site_text(bins: Mapping[str, Any], options: PlanOptions) -> str:
    """The site file.

    Raises:
        DataFileError: strings too long for the unit ids, serials too long for the nodes.
        SiteFileError: what came out is no valid site file (a wrong option).
    """
    where = places(bins)
    _fits(where)
    names = [s["name"] for s in bins["strings"]]
    lines = [*_head(bins, options), *_gateways(names, options), *_bus(options), *_types(bins, options)]
    lines.append("strings:")
    for name in names:
        lines += _string(name, [p for p in where if p.string == name], bins, options)
    lines += [
        "# When a command has expired and no other has come, the site goes to 0 W.",
        "fallback: {action: zero}",
    ]
    text = "\n".join(lines) + "\n"
    parse_site(text, f"{options.name}.yaml")
    return text


def _fits(where: Sequence[Place]) -> None:
    longest = max(p.unit_id for p in where)
    if longest > 200:
        raise DataFileError(f"a string of {longest} positions: RM1 unit ids end at 200")
    wrong = [p.serials[0] for p in where if len(p.serials[0]) > SERIAL_LONGEST]
    if wrong:
        raise DataFileError(
            f"serial {wrong[0]!r} is longer than the {SERIAL_LONGEST} characters a node keeps"
        )


def _head(bins: Mapping[str, Any], options: PlanOptions) -> list[str]:
    request = bins["request"]
    return [
        f"# {request['strings']} strings of {request['length']} positions, {request['spares']} may rest;",
        f"# {bins['objective_kwh']:.1f} kWh expected per full discharge. Written by `reconf plan`;",
        "# `reconf check` reads it strictly.",
        "# SOH and its standard deviation are as graded; the estimator goes on from there.",
        f"site: {json.dumps(options.name)}",
        "",
    ]


def _gateways(names: Sequence[str], options: PlanOptions) -> list[str]:
    """One gateway per string, so that a silent bus stops one string at most."""
    lines = ["# One gateway per string: a bus that fails stops one string, not the site.", "gateways:"]
    host, colon, port = options.gateway.rpartition(":")
    for n, name in enumerate(names):
        common = f"  - {{name: gateway-{name.lower()}, "
        if colon and port.isdigit():
            lines.append(
                f"{common}kind: tcp, host: {json.dumps(host)}, port: {int(port) + n}, connections: 4}}"
            )
        elif options.gateway.startswith("/dev/"):
            device = options.gateway.replace("{n}", str(n))
            lines.append(
                f"{common}kind: rtu, device: {json.dumps(device)}, baudrate: 115200, timeout_s: 0.1}}"
            )
        else:
            raise DataFileError(
                f"--gateway {options.gateway!r}: HOST:PORT, or a serial device as /dev/ttyUSB{{n}}"
            )
    return [*lines, ""]


def _bus(options: PlanOptions) -> list[str]:
    low, high = 0.9 * options.bus_v, 1.1 * options.bus_v
    return [
        "# The PCS holds the DC bus, the converters deliver power into it.",
        f"bus: {{master: pcs, nominal_v: {options.bus_v:g}, min_v: {low:g}, max_v: {high:g}}}",
        "",
        "timing: {tick_s: 5.0, slot_s: 10.0, interval_s: 60.0}",
        "",
    ]


def _types(bins: Mapping[str, Any], options: PlanOptions) -> list[str]:
    lines = ["# Kinds of modules; what is different of a single one stands at its position.", "module_types:"]
    parallel = int(bins["request"]["parallel"])
    for name, kind in bins["kinds"].items():
        lines += [
            f"  {name}:",
            f"    chemistry: {kind['chemistry']}",
            f"    cell_model: {kind['cell_model']}",
            f"    n_cells: {kind['n_cells']}",
            f"    n_parallel: {kind['n_parallel'] * parallel}",
            f"    rated_capacity_ah: {kind['rated_capacity_ah'] * parallel:g}",
            f"    trim_rating_a: {options.trim_rating_a:g}",
        ]
    return [*lines, ""]


def rounded(value: float) -> str:
    """Two digits, without an exponent."""
    return f"{float(f'{value:.2g}'):g}" if value < 1e5 else f"{float(f'{value:.2g}'):.0f}"


def _string(name: str, where: Sequence[Place], bins: Mapping[str, Any], options: PlanOptions) -> list[str]:
    request = bins["request"]
    kind = bins["kinds"][where[0].kind]
    limits = default_limits(Chemistry(kind["chemistry"]))
    cell_min, cell_max = limits["cell_voltage_v", "min"].operating, limits["cell_voltage_v", "max"].operating
    inserted = request["length"] - request["spares"]
    low = inserted * kind["n_cells"] * cell_min * (1.0 - WINDOW_SLACK_FRAC)
    high = request["length"] * kind["n_cells"] * cell_max * (1.0 + WINDOW_SLACK_FRAC)
    current = float(rounded(CURRENT_FACTOR * request["current_a"]))
    lines = [
        f"  - name: {name}",
        f"    fuse_a: {FUSE_FACTOR * current:g}",
        f"    r_on_ohm: {options.r_on_ohm:g}",
        "    converter:",
        f"      gateway: gateway-{name.lower()}",
        "      unit_id: 201",
        f"      power_rating_w: {rounded(0.5 * (low + high) * current)}",
        f"      current_rating_a: {current:g}",
        f"      # bottom: {inserted} of {request['length']} empty under load; top: all full, charging",
        f"      voltage_min_v: {low:.0f}",
        f"      voltage_max_v: {high:.0f}",
        "    positions:",
    ]
    return lines + [_position(p) for p in where]


def _position(place: Place) -> str:
    together = f" # in parallel: {', '.join(place.serials)}" if len(place.serials) > 1 else ""
    return (
        f"      - {{label: {place.label}, gateway: {place.gateway}, unit_id: {place.unit_id}, "
        f"serial: {json.dumps(place.serials[0])}, module_type: {place.kind}, soh_frac: {place.soh_frac:.4f}, "
        f"soh_std_frac: {max(place.soh_std_frac, 1e-3):.4f}, "
        f"resistance_scale: {place.resistance_scale:.3f}}}{together}"
    )


def write_plan(bins: Mapping[str, Any], options: PlanOptions, folder: Path) -> dict[str, str]:
    """Write every file into `folder`; returns what each is.

    Raises:
        ReconfError: the bins do not make a valid site.
    """
    from edge.siteplan_lists import checklist, wiring_csv, wiring_rows
    from edge.siteplan_paper import checklist_pdf, labels_pdf, wiring_pdf

    text = site_text(bins, options)
    where = places(bins)
    site = parse_site(text, f"{options.name}.yaml")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{options.name}.yaml").write_text(text)
    (folder / "wiring.csv").write_text(wiring_csv(where))
    wiring_pdf(wiring_rows(where), options.name, folder / "wiring.pdf")
    labels_pdf(where, options.name, folder / "labels.pdf")
    checklist_pdf(checklist(site), options.name, folder / "checklist.pdf")
    return {
        f"{options.name}.yaml": f"site file: {len(site.strings)} strings, {len(site.modules)} positions",
        "wiring.csv": "wiring list for a spreadsheet",
        "wiring.pdf": "wiring list for the rack",
        "labels.pdf": "a label with QR code for each module",
        "checklist.pdf": "what is done before the first run, to be signed",
    }
