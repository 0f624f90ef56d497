"""Work of `reconf report`: the lot, the bins and what they are worth, as HTML and PDF."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment

from edge.binning import POLICY_TEXT
from edge.binning_plot import (
    draw_energy_now,
    draw_energy_years,
    draw_histogram,
    draw_scatter,
    draw_strings,
    kwh_text,
    new_figure,
)
from edge.inventory.life import expected_life
from edge.inventory.paper import heading, latin, new_pdf, table
from edge.inventory.passport import Passport
from reconf.estimation.health import FAR_YEARS, SIGMAS_90

HTML = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>
body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#1b1f24}
h1{margin-bottom:.1em}h2{margin-top:1.8em}.when{color:#57606a}
.big{display:flex;flex-wrap:wrap;gap:1em;margin:1.4em 0}.big div{flex:1;min-width:11em;background:#f3f6f9;
padding:1em;border-radius:6px}.big b{display:block;font-size:1.8em}table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #d7dde3;padding:.3em .6em;text-align:left}img{width:100%}
@media print{body{font-size:11px;margin:0}h2,table,img{page-break-inside:avoid}}</style></head><body>
<h1>{{ title }}</h1><p class="when">{{ when }}</p>
<div class="big">{% for value, text in headline %}<div><b>{{ value }}</b>{{ text }}</div>{% endfor %}</div>
{% for part in parts %}<h2>{{ part.title }}</h2>{% for p in part.text %}<p>{{ p }}</p>{% endfor %}
{% if part.picture %}<img alt="{{ part.title }}" src="data:image/png;base64,{{ part.picture }}">{% endif %}
{% if part.rows %}<table><tr>{% for cell in part.rows[0] %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in part.rows[1:] %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</table>{% endif %}{% endfor %}</body></html>
"""


LIFE_TEXT = (
    "A straight line through the grade and what sites have learned since (passports), with a published prior "
    "of its slope, to a state of health of 60 %. It sees no knee coming. A module without a history in "
    "operation stands on the prior alone, and its interval says so."
)
CHAPTER_MM = 105.0
"""Height of a chapter's title, text and picture on A4."""


def headline(bins: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures to remember."""
    energy = bins["energy"]
    plan, chance = energy["planned"], energy["random_fixed"]
    years = bins["request"]["years"]
    gain_life = plan["mean_of_years_kwh"] / energy["sorted_fixed"]["mean_of_years_kwh"] - 1.0
    return [
        (
            f"{kwh_text(plan['now_kwh'])} kWh",
            f"per full discharge, {plan['utilisation']:.1%} of what is in the modules",
        ),
        (f"{plan['now_kwh'] / chance['now_kwh'] - 1.0:+.0%}", "against fixed strings built at random"),
        (f"{gain_life:+.0%}", f"against sorted fixed strings, mean of {years} years"),
        (
            f"{kwh_text(bins['promised_kwh'])} kWh",
            f"reached with {bins['request']['confidence']:.0%} probability",
        ),
    ]


def build_parts(bins: Mapping[str, Any], cards: Sequence[Passport]) -> list[dict[str, Any]]:
    """Chapters: title, text, picture (PNG) and table."""
    modules = [m for s in bins["strings"] for g in s["positions"] for m in g]
    lot = modules + list(bins["shelf"])
    request = bins["request"]
    parts: list[dict[str, Any]] = [
        {
            "title": "In short",
            "text": _short_texts(bins, cards, lot),
            "figure": None,
            "rows": [],
        },
        {
            "title": "The lot",
            "text": [_lot_text(bins, cards, lot)],
            "figure": _lot_figure(lot),
            "rows": [],
        },
        {
            "title": "Energy: this plan against fixed strings",
            "text": [_energy_text(bins)],
            "figure": _energy_figure(bins),
            "rows": _energy_rows(bins),
        },
        {
            "title": "The strings",
            "text": [_string_text(request)],
            "figure": _string_figure(bins),
            "rows": _string_rows(bins),
        },
        {
            "title": "Uncertainty",
            "text": _doubt_texts(request, lot),
            "figure": None,
            "rows": [],
        },
    ]
    lasting = life_rows(cards)
    if lasting:
        parts.append(
            {"title": "How long they may last", "text": [LIFE_TEXT], "figure": None, "rows": lasting}
        )
    refused = [c for c in cards if c.status == "refused"]
    if cards:
        parts.append(
            {
                "title": "Refused",
                "text": [f"{len(refused)} of {len(cards)} modules were refused at intake."],
                "figure": None,
                "rows": [("serial", "why", "found", "asked for by")][: len(refused)]
                + [(c.serial, r["reason"], r["found"], r["step"]) for c in refused for r in c.refusals],
            }
        )
    return parts


def life_rows(cards: Sequence[Passport]) -> list[tuple[str, ...]]:
    """Forecast of every accepted module that anything is known of, the shortest life first."""
    known = [(c.serial, ahead) for c in cards if c.status != "refused" and (ahead := expected_life(c))]
    known.sort(key=lambda row: (row[1].years_left, row[0]))
    head = ("serial", "SOH now", "points of SOH a year", "years to SOH 60 %", "90 % interval")
    rows = [
        (
            serial,
            f"{a.soh_now_frac:.1%} +-{SIGMAS_90 * a.soh_std_frac:.1%}",
            f"{100.0 * a.slope_per_year:+.1f}",
            _years(a.years_left),
            f"{_years(a.years_left_low)} .. {_years(a.years_left_high)}",
        )
        for serial, a in known
    ]
    return [head, *rows] if rows else []


def _years(years: float) -> str:
    return f"over {FAR_YEARS:.0f}" if years >= FAR_YEARS else f"{years:.1f}"


def _short_texts(
    bins: Mapping[str, Any], cards: Sequence[Passport], lot: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What a reader who has one minute should know, without a word of the trade unexplained."""
    soh = [m["soh_frac"] for m in lot]
    energy, request = bins["energy"], bins["request"]
    chance, plan = energy["random_fixed"], energy["planned"]
    refused = sum(c.status == "refused" for c in cards)
    sorting_out = f" {refused} of {len(cards)} were refused, each for a named reason." if cards else ""
    length, working = request["length"], request["length"] - request["spares"]
    turns = (
        f"Here {working} of the {length} modules of a string work at a time and the others rest, the weak "
        "ones more often, so that all are empty together"
        if request["spares"]
        else "Here modules of like strength stand together, so that little is left in the strong ones"
    )
    origin = (
        f"These modules come from cars and hold between {min(soh):.0%} and {max(soh):.0%} of the charge they "
        f"held when new (their state of health, SOH).{sorting_out}"
    )
    gain = (
        "In an ordinary battery modules stand in rows (strings) and all give the same charge: the weakest "
        f"ends the discharge, and built at random these would give {kwh_text(chance['now_kwh'])} kWh, "
        f"{chance['utilisation']:.0%} of what is in them. {turns}: {kwh_text(plan['now_kwh'])} kWh, "
        f"{plan['utilisation']:.1%}."
    )
    life = (
        f"Over {request['years']} years of ageing the mean is {kwh_text(plan['mean_of_years_kwh'])} kWh "
        f"against {kwh_text(chance['mean_of_years_kwh'])} kWh."
    )
    return [origin, gain, life]


def _lot_text(bins: Mapping[str, Any], cards: Sequence[Passport], lot: Sequence[Mapping[str, Any]]) -> str:
    kinds = Counter(m["kind"] for m in lot)
    described = ", ".join(f"{count} of kind {kind}" for kind, count in kinds.most_common())
    received = f"{len(cards)} modules were received; " if cards else ""
    return f"{received}{len(lot)} graded: {described}. {len(bins['shelf'])} stay on the shelf as spares."


def _energy_text(bins: Mapping[str, Any]) -> str:
    return (
        "All arrangements meet the same drawn modules: the bars are means, the whiskers 5 to 95 % of "
        f"{bins['request']['draws']} draws within the graded intervals. No assignment of this lot passes "
        f"{kwh_text(bins['bound_kwh'])} kWh; the plan is {abs(bins['gap']):.2%} from it at the graded values."
    )


def _doubt_texts(request: Mapping[str, Any], lot: Sequence[Mapping[str, Any]]) -> list[str]:
    known = (
        f"SOH is known to +-{_median_interval(lot):.1%} (90 %, median module). A module counts with the "
        f"SOH it has with {request['confidence']:.0%} probability when the strings are chosen."
    )
    ahead = (
        f"The years ahead are a scenario: {request['fade_per_year']:.1%} of rated capacity a year, "
        f"spread {request['fade_cv']:.0%} between modules (log-normal), string current "
        f"{request['current_a']:.0f} A. The duty of the site decides how fast it goes."
    )
    return [known, ahead]


def _string_text(request: Mapping[str, Any]) -> str:
    if request["spares"]:
        return (
            f"{request['length'] - request['spares']} of {request['length']} positions are inserted at a "
            "time; the modules take turns in resting, weak ones more often, so that all are empty together."
        )
    return "Fixed strings: all modules carry the same charge, and the weakest ends the discharge."


def _median_interval(lot: Sequence[Mapping[str, Any]]) -> float:
    std = sorted(m["soh_std_frac"] for m in lot)
    return 1.645 * float(std[len(std) // 2])


def _energy_rows(bins: Mapping[str, Any]) -> list[tuple[str, ...]]:
    years = bins["request"]["years"]
    rows: list[tuple[str, ...]] = [
        ("", "kWh now", "5..95 %", "of what is inside", f"mean of {years} years", f"after {years} years")
    ]
    for name, worth in bins["energy"].items():
        low, high = worth["now_kwh_90"]
        last = worth["by_year_kwh"][-1]
        rows.append(
            (
                POLICY_TEXT[name], kwh_text(worth["now_kwh"]), f"{kwh_text(low)}..{kwh_text(high)}",
                f"{worth['utilisation']:.1%}", kwh_text(worth["mean_of_years_kwh"]), kwh_text(last),
            )
        )  # fmt: skip
    return rows


def _string_rows(bins: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("string", "modules", "SOH weakest", "SOH strongest", "resistance / new, largest", "serials")
    ]
    every = [m["resistance_scale"] for s in bins["strings"] for g in s["positions"] for m in g]
    measured = len(set(every)) > 1  # one and the same figure for all is the assumption, as in the picture
    for string in bins["strings"]:
        modules = [m for g in string["positions"] for m in g]
        soh = [m["soh_frac"] for m in modules]
        rows.append(
            (
                string["name"], str(len(modules)), f"{min(soh):.1%}", f"{max(soh):.1%}",
                f"{max(m['resistance_scale'] for m in modules):.2f}" if measured else "not measured",
                f"{modules[0]['serial']} .. {modules[-1]['serial']}",
            )
        )  # fmt: skip
    return rows


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _lot_figure(lot: Sequence[Mapping[str, Any]]) -> bytes:
    figure = new_figure(10.0, 3.8)
    left, right = figure.subplots(1, 2)
    soh = [m["soh_frac"] for m in lot]
    draw_histogram(left, soh)
    draw_scatter(right, soh, [m["soh_std_frac"] for m in lot], [m["resistance_scale"] for m in lot])
    return _png(figure)


def _energy_figure(bins: Mapping[str, Any]) -> bytes:
    figure = new_figure(10.0, 3.8)
    left, right = figure.subplots(1, 2)
    draw_energy_now(left, bins)
    draw_energy_years(right, bins)
    return _png(figure)


def _string_figure(bins: Mapping[str, Any]) -> bytes:
    figure = new_figure(10.0, 3.2)
    draw_strings(figure.subplots(), bins)
    return _png(figure)


def write_html(
    bins: Mapping[str, Any], cards: Sequence[Passport], title: str, now: datetime, path: Path
) -> None:
    """One file with its pictures inside, for screen and printer."""
    parts = [
        {**p, "picture": base64.b64encode(p["figure"]).decode() if p["figure"] else ""}
        for p in build_parts(bins, cards)
    ]
    template = Environment(autoescape=True).from_string(HTML)
    path.write_text(
        template.render(title=title, when=f"{now:%Y-%m-%d %H:%M} UTC", headline=headline(bins), parts=parts),
        encoding="utf-8",
    )


def write_pdf(
    bins: Mapping[str, Any], cards: Sequence[Passport], title: str, now: datetime, path: Path
) -> None:
    """The same on A4."""
    pdf = new_pdf()
    pdf.add_page()
    heading(pdf, title, 18)
    pdf.cell(0, 5, f"{now:%Y-%m-%d %H:%M} UTC", new_x="LMARGIN", new_y="NEXT")
    for value, text in headline(bins):
        pdf.set_font("Helvetica", style="B", size=13)
        pdf.cell(30, 8, latin(value))
        pdf.set_font("Helvetica", size=10)
        pdf.cell(0, 8, latin(text), new_x="LMARGIN", new_y="NEXT")
    for part in build_parts(bins, cards):
        if part["figure"] and pdf.h - pdf.b_margin - pdf.get_y() < CHAPTER_MM:
            pdf.add_page()  # a title stays with its picture
        heading(pdf, part["title"], 13)
        for text in part["text"]:
            pdf.multi_cell(0, 4.6, latin(text), new_x="LMARGIN", new_y="NEXT")
        if part["figure"]:
            pdf.image(io.BytesIO(part["figure"]), w=pdf.epw)
        if part["rows"]:
            pdf.ln(2)
            table(pdf, part["rows"], (1,) * len(part["rows"][0]))
    pdf.output(str(path))
