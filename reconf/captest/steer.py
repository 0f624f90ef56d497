"""The preference a capacity test hands to the allocator: an envelope in which its modules have no choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reconf.arrays import FloatArray
from reconf.captest.trial import LIMIT_MARGIN, WINDOW_MARGIN, CapacityTest, Phase, Trial
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope, Insertion
from reconf.site import Site

RESTING = frozenset({Phase.REST_ONE, Phase.REST_TWO})


def steered(
    site: Site,
    envelope: Envelope,
    estimate: Estimate,
    test: CapacityTest | None,
    *,
    power_w: float,
    string_current_a: FloatArray,
) -> Envelope:
    """`envelope` as plan and schedule are to see it while a test runs.

    Only modules that may choose are steered, each within what its string can spare; trim of a module
    under test stands still.

    Args:
        site: whose strings these are.
        envelope: true limits (with the margin that plans keep).
        estimate: of this tick.
        test: what runs, None for nothing.
        power_w: set point at the bus, discharge positive.
        string_current_a: (S,) measured, discharge positive.
    """
    if test is None:
        return envelope
    insertion = envelope.insertion.copy()
    give, take = envelope.trim_give_a.copy(), envelope.trim_take_a.copy()
    for s, trial in enumerate(test.trials):
        if trial is None:
            continue
        m = site.topology.serials.index(trial.serial)
        give[m] = take[m] = 0.0
        if insertion[m] != np.uint8(Insertion.ALLOWED):
            continue
        wish = wished(trial, power_w)
        if wish is Insertion.FORBIDDEN and _spares(site, envelope, estimate, s, m):
            insertion[m] = np.uint8(Insertion.FORBIDDEN)
        if wish is Insertion.FORCED and _carries(
            site, envelope, test, m, power_w, float(string_current_a[s])
        ):
            insertion[m] = np.uint8(Insertion.FORCED)
    return replace(envelope, insertion=insertion, trim_give_a=give, trim_take_a=take)


def wished(trial: Trial, power_w: float) -> Insertion:
    """What the trial would have its module do."""
    if trial.phase in RESTING:
        return Insertion.FORBIDDEN
    towards = power_w * trial.sign
    if trial.phase is Phase.APPROACH:
        towards = -towards
    if towards > 0.0:
        return Insertion.FORCED
    return Insertion.FORBIDDEN if towards < 0.0 else Insertion.ALLOWED


def _spares(site: Site, envelope: Envelope, estimate: Estimate, s: int, m: int) -> bool:
    """The others can hold the window's bottom at half charge of each, whatever the power."""
    members = site.topology.slice_of(s)
    free = (envelope.insertion[members] != np.uint8(Insertion.FORBIDDEN)) & estimate.trusted[members]
    others = free & (np.arange(members.start, members.stop) != m)
    volts = np.nan_to_num(estimate.ocv_v[members])
    return bool(volts[others].sum() >= WINDOW_MARGIN * envelope.string_voltage_min_v[s])


def _carries(
    site: Site, envelope: Envelope, test: CapacityTest, m: int, power_w: float, current_a: float
) -> bool:
    """Holding the module in does not hold the string back, and keeps to the C-rate asked for."""
    limit = envelope.discharge_now_a[m] if power_w > 0.0 else envelope.charge_now_a[m]
    carried = abs(current_a)
    within = carried <= test.current_c * float(site.topology.rated_capacity_ah[m]) * LIMIT_MARGIN
    return bool(limit >= LIMIT_MARGIN * carried and limit > 0.0) and within
