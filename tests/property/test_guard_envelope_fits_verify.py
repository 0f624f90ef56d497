"""The whole current that the envelope allows near empty and full passes what verify knows of the cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from edge.bench.protect_site import bench_site, true_estimate
from reconf.actuation import ConverterMode, Refused, SlotCommand
from reconf.protection.protect import initial_protection, protect
from reconf.site import Chemistry, TimingSpec
from reconf.twin.observe import TYPICAL, observe
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth
from reconf.verify import History, verify

MODULES = 6
SITES = {c: bench_site(MODULES, chemistry=c) for c in Chemistry}


@settings(max_examples=150, deadline=None)
@given(
    chemistry=st.sampled_from(sorted(SITES)),
    tick_s=st.sampled_from([0.5, 1.0, 5.0, 60.0, 300.0]),
    slots=st.sampled_from([1.0, 2.0, 10.0]),
    edge_frac=st.lists(st.floats(0.002, 0.06), min_size=MODULES, max_size=MODULES),
    discharging=st.booleans(),
    doubt=st.floats(0.0, 4.0),
    degc=st.floats(5.0, 40.0),
    seed=st.integers(0, 2**16),
)
def test_what_the_envelope_allows_near_empty_and_full_verify_lets_through(
    chemistry, tick_s, slots, edge_frac, discharging, doubt, degc, seed
):
    timing = TimingSpec(tick_s=tick_s, slot_s=slots * tick_s, interval_s=30.0 * slots * tick_s)
    site = replace(SITES[chemistry], timing=timing)
    rng = np.random.default_rng(seed)
    plant = Plant(site, draw_truth(site, rng), degc)
    edge = np.array(edge_frac)[:, None]
    plant.cells.soc_frac[:] = edge if discharging else 1.0 - edge
    plant.core_degc[:] = plant.surface_degc[:] = degc
    joined = replace(
        plant.inputs, inserted=np.ones(MODULES, dtype=bool), contactor_closed=np.ones(1, dtype=bool)
    )
    plant.apply(joined)
    plant.step(1e-3)
    image, estimate = observe(plant, rng, 1, 0.0, TYPICAL), true_estimate(plant, doubt=doubt)
    _, envelope = protect(site, initial_protection(site), image, estimate, tick_s)
    limit = envelope.discharge_now_a if discharging else envelope.charge_now_a
    current_a = float(limit.min())
    still = replace(
        SlotCommand.safe(MODULES, 1),
        inserted=np.ones(MODULES, dtype=bool),
        mode=np.array([int(ConverterMode.POWER)]),
        contactor=np.ones(1, dtype=bool),
    )
    power_w = current_a * float(estimate.ocv_v.sum()) * (1.0 if discharging else -1.0)
    full = replace(still, power_w=np.array([power_w]), current_limit_a=np.array([current_a]))
    outcome = verify(
        site, image, estimate, envelope, still, full, dt_s=tick_s, history=History(hold_s=tick_s)
    )
    rules = {v.rule for v in outcome.violations} if isinstance(outcome, Refused) else set()
    event("no current" if current_a == 0.0 else "current flows")
    for rule in rules or {"accepted"}:
        event(rule)
    assert not rules & {"charge_left", "charge_room", "cell_voltage_min", "cell_voltage_max"}
