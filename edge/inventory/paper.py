"""Passports on paper: HTML by jinja2, PDF by fpdf2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment

HTML = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{ id }}</title><style>
body{font:14px/1.45 sans-serif;max-width:48em;margin:2em auto;color:#1b1f24}table{border-collapse:collapse;
width:100%;margin:.6em 0 1.6em}td,th{border-bottom:1px solid #d7dde3;padding:.3em .5em;text-align:left;
vertical-align:top;overflow-wrap:anywhere}th{width:16em;color:#57606a;font-weight:normal}h1{font-size:1.5em}
</style></head><body><h1>Passport of module {{ id }}</h1>
{% for title, rows in sections %}<h2>{{ title }}</h2><table>{% for k, v in rows %}<tr><th>{{ k }}</th>
<td>{{ v }}</td></tr>{% endfor %}</table>{% endfor %}</body></html>
"""


def sections(passport: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The passport as titled tables of text."""
    out = [
        (
            title,
            [(k, text(v)) for k, v in passport[title].items() if k not in ("tests", "positions", "refusals")],
        )
        for title in ("identification", "origin", "materials", "performanceAndDurability", "module")
    ]
    refused = [(r["reason"], f"{r['found']} ({r['step']})") for r in passport["module"]["refusals"]]
    if refused:
        out.append(("refused because of", refused))
    history = [
        (f"{e['step']} {e['utc'][:19]} {e['kind']}", f"{brief(e['data'])} [{e['hash'][:12]}]")
        for e in passport["history"]
    ]
    return [*out, ("history", history)]


def text(value: Any) -> str:
    """A value for people; what is not known is a dash."""
    if value is None or value == [None, None]:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " .. ".join(text(v) for v in value)
    return str(value)


def brief(data: Mapping[str, Any]) -> str:
    """An entry in a line; curves and digests only by name."""
    short = {k: v for k, v in data.items() if k not in ("voltage_v", "sha256", "reasons")}
    return ", ".join(f"{k} {text(v)}" for k, v in short.items())


def passport_html(passport: Mapping[str, Any]) -> str:
    """The passport as one HTML page."""
    template = Environment(autoescape=True).from_string(HTML)
    return template.render(id=passport["identification"]["uniqueIdentifier"], sections=sections(passport))


def passport_pdf(passport: Mapping[str, Any], path: Path) -> None:
    """The passport as PDF."""
    pdf = new_pdf()
    pdf.add_page()
    heading(pdf, f"Passport of module {passport['identification']['uniqueIdentifier']}", 16)
    for title, rows in sections(passport):
        heading(pdf, title, 11)
        table(pdf, [("", ""), *rows], (1, 2), head=False)
    pdf.output(str(path))


def new_pdf() -> Any:
    """An empty A4 document in a built-in font, pages numbered."""
    from fpdf import FPDF

    class Numbered(FPDF):
        """Says on each page which of how many it is: sheets part in the field."""

        def footer(self) -> None:
            """Number and count."""
            self.set_y(-10)
            self.set_font("Helvetica", size=7)
            self.cell(0, 5, f"{self.page_no()} / {{nb}}", align="C")

    pdf = Numbered(format="A4")
    pdf.set_auto_page_break(True, margin=14)
    pdf.set_font("Helvetica", size=9)
    return pdf


def latin(value: str) -> str:
    """Text in the character set of the built-in fonts; other characters as question marks."""
    return value.encode("latin-1", "replace").decode("latin-1")


def heading(pdf: Any, title: str, size: int) -> None:
    """A line of larger text."""
    pdf.ln(2)
    pdf.set_font("Helvetica", style="B", size=size)
    pdf.cell(0, 1.2 * size * 0.5 + 2, latin(title), new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("Helvetica", size=9)


def table(
    pdf: Any, rows: list[tuple[str, ...]], widths: tuple[int, ...], *, head: bool = True, size: int = 8
) -> None:
    """A table; the first row is its head."""
    pdf.set_font("Helvetica", size=size)
    with pdf.table(
        col_widths=widths, first_row_as_headings=head, line_height=1.35 * size * 0.5, text_align="LEFT"
    ) as grid:
        for row in rows if head else rows[1:]:
            cells = grid.row()
            for value in row:
                cells.cell(latin(value))
    pdf.set_font("Helvetica", size=9)
