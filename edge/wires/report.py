"""The report of a commissioning: JSON that is signed, HTML and PDF made of the same document.

    {"format": "reconf-commissioning/1", "site", "site_sha256", "reconf", "began_utc", "ended_utc",
     "verdict": "pass" | "fail" | "incomplete",
     "nodes": {"modules", "converters"}, "serials": [...],
     "steps": [{"step", "title", "passes_when", "wrote", "verdict", "checked", "seconds", "text",
                "findings": [...], "untried": {...}, "figures": {...}}],
     "by_hand": [...], "public_key", "signature"}

The signature is Ed25519 over the canonical JSON (RFC 8785) without the signature itself.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.wires.commission import overall
from edge.wires.memory import site_digest
from reconf import __version__
from reconf.commissioning.outcome import StepOutcome, Verdict, by_reason
from reconf.commissioning.steps import STEPS
from reconf.errors import DataFileError
from reconf.site import Site

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FORMAT = "reconf-commissioning/1"
BY_HAND = (
    "Terminal voltage and polarity of each module measured by hand before it was wired",
    "Torque of every joint, marked",
    "Insulation of each string to the rack, before closing: at least 500 ohm per volt",
    "Fuses as the site plan says",
    "Emergency stop pressed: every string contactor opens",
    "The first full discharge and charge watched to their end",
)
"""What no register can say; the checklist of `reconf plan` has room for names."""

UNITS = {"_k_per_position": "K per position", "_k": "K", "_s": "s", "_w": "W"}

HTML = """{% macro table(rows) %}<table><tr>{% for h in rows[0] %}<th>{{ h }}</th>{% endfor %}</tr>
{% for row in rows[1:] %}<tr class="{{ row[2].split()[0] if rows[0][2] == "result" }}">
{% for c in row %}<td>{{ c }}</td>{% endfor %}</tr>{% endfor %}</table>{% endmacro %}<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>
body{font:15px/1.5 sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#1b1f24}
h1{margin-bottom:.1em}.when{color:#57606a}table{border-collapse:collapse;width:100%;margin:.6em 0 1.6em}
td,th{text-align:left;border-bottom:1px solid #d7dde3;padding:.35em .6em;vertical-align:top}
.pass td:nth-child(3),.verdict.pass{color:#116329}.fail td:nth-child(3),.verdict.fail{color:#a40e26}
.incomplete td:nth-child(3),.verdict.incomplete,.not td:nth-child(3),.skipped td:nth-child(3){color:#7d4e00}
.verdict{font-size:1.5em;font-weight:bold}p{overflow-wrap:anywhere}
@media print{body{font-size:11px;margin:0}h2,tr{page-break-inside:avoid}}</style></head><body>
<h1>{{ title }}</h1><p class="when">{{ when }}</p><p class="verdict {{ d.verdict }}">{{ verdict }}</p>
{{ table(step_rows) }}{% for heading, rows in tables %}<h2>{{ heading }}</h2>{{ table(rows) }}{% endfor %}
<h2>By hand, not by this report</h2><ul>{% for line in d.by_hand %}<li>{{ line }}</li>{% endfor %}</ul>
<h2>Signature</h2><p>{{ signed }}</p></body></html>
"""


def document(
    site: Site, outcomes: Mapping[str, StepOutcome], began_utc: str, now: datetime
) -> dict[str, Any]:
    """Everything that was found, unsigned."""
    steps = []
    for step in STEPS:
        outcome = outcomes.get(step.step, StepOutcome(step.step, Verdict.NOT_TRIED))
        about = {"title": step.title, "passes_when": step.text, "wrote": step.writes}
        steps.append({**about, **asdict(outcome), "verdict": outcome.verdict.value})
    return {
        "format": FORMAT,
        "site": site.name,
        "site_sha256": site_digest(site),
        "reconf": __version__,
        "began_utc": began_utc,
        "ended_utc": now.isoformat(timespec="seconds"),
        "verdict": overall(outcomes).value,
        "nodes": {"modules": site.topology.n_modules, "converters": site.topology.n_strings},
        "serials": list(site.topology.serials),
        "steps": steps,
        "by_hand": list(BY_HAND),
    }


def signed(found: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """`found` with the public key and the signature."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from edge.northbound.signature import sign

    public = base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    whole = {**found, "public_key": public}
    return {**whole, "signature": sign(whole, key)}


def check_report(path: Path, public_key: str = "") -> tuple[dict[str, Any], bool]:
    """Read a report; whether its signature fits it (and the key is the one given).

    Raises:
        DataFileError: it is no report.
    """
    from edge.northbound.signature import signature_fits

    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = found["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataFileError(f"{path}: no commissioning report: {error!r}") from error
    if not known:
        raise DataFileError(f"{path}: format {found['format']!r}, allowed is {FORMAT}")
    key, signature = str(found.get("public_key", "")), str(found.get("signature", ""))
    fits = bool(signature) and signature_fits(found, signature, public_key or key)
    return found, fits


# ---- paper -------------------------------------------------------------------------------------


def verdict_text(found: Mapping[str, Any]) -> str:
    """The verdict in a sentence."""
    faults = sum(f["fault"] for s in found["steps"] for f in s["findings"])
    match found["verdict"]:
        case "pass":
            nodes = found["nodes"]
            return f"PASS: {nodes['modules']} modules and {nodes['converters']} converters proven"
        case "fail":
            return f"FAIL: {faults} fault{'s' if faults != 1 else ''} found"
        case _:
            return "INCOMPLETE: nothing wrong was found, but not everything was tried"


def step_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row a step; the last cell says what passes, or why it was not tried."""
    rows: list[tuple[str, ...]] = [("", "step", "result", "checked", "s", "what passes")]
    for k, s in enumerate(found["steps"], start=1):
        last = s["text"] or s["passes_when"]
        checked, seconds = str(s["checked"] or ""), f"{s['seconds']:.0f}"
        rows.append((str(k), s["title"], s["verdict"], checked, seconds, last))
    return rows


def finding_tables(found: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Faults, remarks, what was not tried, and figures, where there are any."""
    head = ("step", "where", "expected", "found", "what to do")
    faults: list[tuple[str, ...]] = []
    remarks: list[tuple[str, ...]] = []
    untried: list[tuple[str, ...]] = []
    figures: list[tuple[str, ...]] = []
    for s in found["steps"]:
        for f in s["findings"]:
            where = " ".join(dict.fromkeys((f["position"], f["subject"]))).strip()
            row = (s["title"], where, f["expected"], f["found"], f["remedy"])
            (faults if f["fault"] else remarks).append(row)
        untried += [(s["title"], who, why) for why, who in by_reason(s["untried"])]
        figures += [(s["title"], *_figure(name, v)) for name, v in s["figures"].items()]
    out: list[tuple[str, list[tuple[str, ...]]]] = []
    if faults:
        out.append(("Faults", [head, *faults]))
    if remarks:
        out.append(("Remarks", [head, *remarks]))
    if untried:
        out.append(("Not tried", [("step", "where", "why"), *untried]))
    if figures:
        out.append(("Measured", [("step", "what", "value"), *figures]))
    return out


def _figure(name: str, value: float) -> tuple[str, str]:
    """A figure's name without its unit, and its value with it."""
    for ending, unit in UNITS.items():
        if name.endswith(ending):
            return name.removesuffix(ending).replace("_", " "), f"{value:g} {unit}"
    return name.replace("_", " "), f"{value:g}"


def signature_text(found: Mapping[str, Any]) -> str:
    """What there is to say of the signature."""
    if "signature" not in found:
        return "Not signed: no key was given."
    return f"Ed25519, public key {found['public_key']}, signature {found['signature']} over the JSON report."


def _title(found: Mapping[str, Any]) -> str:
    return f"Commissioning of {found['site']}"


def _when(found: Mapping[str, Any]) -> str:
    return (
        f"{found['began_utc'][:19]} to {found['ended_utc'][:19]} UTC, reconf {found['reconf']}, "
        f"site file sha256 {found['site_sha256'][:16]}"
    )


def write_html(found: Mapping[str, Any], path: Path) -> None:
    """The report as one HTML page."""
    from jinja2 import Environment

    page = Environment(autoescape=True).from_string(HTML)
    text = page.render(
        title=_title(found),
        when=_when(found),
        d=found,
        verdict=verdict_text(found),
        step_rows=step_rows(found),
        tables=finding_tables(found),
        signed=signature_text(found),
    )
    path.write_text(text, encoding="utf-8")


def write_pdf(found: Mapping[str, Any], path: Path) -> None:
    """The report on paper."""
    from edge.inventory.paper import heading, latin, new_pdf, table

    pdf = new_pdf()
    pdf.add_page()
    heading(pdf, _title(found), 16)
    pdf.multi_cell(0, 5, latin(_when(found)), new_x="LMARGIN", new_y="NEXT")
    heading(pdf, verdict_text(found), 13)
    table(pdf, step_rows(found), (1, 5, 3, 2, 1, 14), size=7)
    for title, rows in finding_tables(found):
        heading(pdf, title, 12)
        widths = (4, 3, 6, 6, 8) if len(rows[0]) == 5 else (4, 5, 9)
        table(pdf, rows, widths, size=7)
    heading(pdf, "By hand, not by this report", 12)
    table(
        pdf,
        [("", "", "done by, date"), *((str(k), line, "") for k, line in enumerate(BY_HAND, 1))],
        (1, 12, 5),
    )
    heading(pdf, "Signature", 12)
    pdf.multi_cell(0, 5, latin(signature_text(found)), new_x="LMARGIN", new_y="NEXT")
    pdf.output(str(path))
