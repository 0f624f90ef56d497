"""What is done without any plan: power 0, and faults are answered all the same."""

from __future__ import annotations

import numpy as np

from edge.bench.closed_loop import Loop
from edge.bench.faults import SCENES, fault_site
from edge.interval import Rung
from reconf.twin.truth import draw_truth

STRUCK = 2


def waiting() -> Loop:
    """A joined site whose optimizer has not answered yet."""
    site = fault_site(SCENES["usual"])
    truth = draw_truth(site, np.random.default_rng(1), soc_frac=0.6)
    loop = Loop(site, truth, lambda _: 10_000.0, allocate=lambda _site, _question: None)
    loop.start()
    while loop.outcome is None or not loop.outcome.view.connected.all():
        loop.step()
    assert loop.outcome.view.book.plan is None
    return loop


def test_a_faulty_module_is_bypassed_although_there_is_no_plan() -> None:
    loop = waiting()
    assert loop.plant.inputs.inserted[STRUCK]
    loop.plant.faults.cell_voltage_offset_v[STRUCK, 0] = 0.8
    outcome = loop.step()
    assert outcome.view.book.plan is None
    assert not loop.plant.inputs.inserted[STRUCK]
    assert outcome.view.refused is None
    assert outcome.view.connected.all()
    assert outcome.view.rung < Rung.LEFT


def test_without_a_fault_nothing_moves() -> None:
    loop = waiting()
    before = loop.plant.inputs.inserted.copy()
    for _ in range(5):
        loop.step()
    assert loop.plant.inputs.inserted.tolist() == before.tolist()
