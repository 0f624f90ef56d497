"""A switch that reads otherwise than its register, with a node that says nothing about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.bench.closed_loop import Hooks, Loop
from edge.bench.faults import SCENES, fault_site
from edge.core_standing import APART_WALL_S, apart_since
from edge.core_values import BypassModule
from reconf.devices.rm1 import Rm1Status
from reconf.protection.envelope import Insertion
from reconf.readings import SiteImage
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

STRUCK = 2


def running(*, reads_in: bool) -> Loop:
    """A site that serves power; once told to be bypassed, the module may go on reading inserted."""
    site = fault_site(SCENES["usual"])
    truth = draw_truth(site, np.random.default_rng(1), soc_frac=0.6)

    def on_image(image: SiteImage, plant: Plant) -> SiteImage:
        if not reads_in or plant.time_s < 60.0:
            return image
        status = image.modules.status.copy()
        status[STRUCK] |= int(Rm1Status.INSERTED)
        return replace(image, modules=replace(image.modules, status=status))

    loop = Loop(site, truth, lambda _: 10_000.0, hooks=Hooks(on_image=on_image))
    loop.start()
    while loop.plant.time_s < 60.0:
        loop.step()
    loop.core.order(BypassModule(site.topology.serials[STRUCK]), 60.0, 60.0)
    for _ in range(6):
        loop.step()
    return loop


def present(loop: Loop) -> set[tuple[str, str]]:
    return {(f.fault, f.subject) for f in loop.outcome.view.envelope.faults}


def test_a_module_that_goes_on_reading_inserted_is_found_and_counts_as_inserted() -> None:
    loop = running(reads_in=True)
    assert ("switch_fault", loop.site.topology.serials[STRUCK]) in present(loop)
    assert loop.outcome.view.envelope.insertion[STRUCK] == int(Insertion.FORCED)


def test_switches_that_follow_are_no_fault() -> None:
    loop = running(reads_in=False)
    assert not present(loop)
    assert loop.outcome.view.envelope.insertion[STRUCK] == int(Insertion.FORBIDDEN)


def test_time_that_runs_fast_makes_no_switch_slow() -> None:
    nothing, apart = np.zeros(2, np.bool_), np.array([True, False])
    since = apart_since(None, apart, 10.0)
    assert since.tolist() == [10.0, np.inf]
    since = apart_since(since, apart, 10.0 + 0.9 * APART_WALL_S)
    assert not (10.0 + 0.9 * APART_WALL_S - since >= APART_WALL_S).any()
    assert (10.0 + APART_WALL_S - since >= APART_WALL_S).tolist() == [True, False]
    assert np.isinf(apart_since(since, nothing, 11.0)).all()
