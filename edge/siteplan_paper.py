"""Wiring list, labels and checklist as PDF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from edge.inventory.paper import heading, latin, new_pdf, table
from edge.siteplan import Place

COLUMNS, ROWS = 3, 8
LABEL_MM = (66.0, 35.0)
MARGIN_MM = (6.0, 8.0)
QR_MM = 29.0


def wiring_pdf(rows: Sequence[tuple[str, ...]], name: str, path: Path) -> None:
    """The wiring list."""
    pdf = new_pdf()
    pdf.add_page()
    heading(pdf, f"Wiring of {name}", 15)
    table(pdf, list(rows), (10, 7, 14, 8, 20, 14, 13, 13))
    pdf.output(str(path))


def qr_text(place: Place, serial: str) -> str:
    """What a label's QR code says: position, unit id and serial."""
    return f"reconf:{place.label};{place.gateway};{place.unit_id};{serial}"


def labels_pdf(where: Sequence[Place], name: str, path: Path) -> None:
    """A4 sheets of 3 x 8 labels."""
    import segno

    pdf = new_pdf()
    pdf.set_auto_page_break(False)
    labels = [(p, s) for p in where for s in p.serials]
    for i, (place, serial) in enumerate(labels):
        slot = i % (COLUMNS * ROWS)
        if slot == 0:
            pdf.add_page()
        x = MARGIN_MM[0] + (slot % COLUMNS) * LABEL_MM[0]
        y = MARGIN_MM[1] + (slot // COLUMNS) * LABEL_MM[1]
        picture = io.BytesIO()
        segno.make(qr_text(place, serial), error="m", micro=False).save(
            picture, kind="png", scale=4, border=1
        )
        pdf.image(picture, x + 1, y + 2, QR_MM, QR_MM)
        pdf.set_font("Helvetica", style="B", size=20)
        pdf.text(x + QR_MM + 3, y + 12, latin(place.label))
        pdf.set_font("Helvetica", size=8)
        for line, words in enumerate((serial, f"{name}, unit {place.unit_id}", place.gateway)):
            pdf.text(x + QR_MM + 3, y + 18 + 4.5 * line, latin(words))
    pdf.output(str(path))


def checklist_pdf(steps: Sequence[str], name: str, path: Path) -> None:
    """The checklist with room for names and dates."""
    pdf = new_pdf()
    pdf.add_page()
    heading(pdf, f"Commissioning of {name}", 15)
    rows: list[tuple[str, ...]] = [("", "step", "done by, date")]
    rows += [(str(i), step, "") for i, step in enumerate(steps, start=1)]
    table(pdf, rows, (1, 12, 5), size=10)
    pdf.ln(12)
    pdf.cell(0, 6, "Signed: ______________________________    Date: ________________")
    pdf.output(str(path))
