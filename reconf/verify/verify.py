"""verify: the last word before the wire."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reconf.actuation import Refused, SlotCommand, VerifiedCommand
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.readings import SiteImage
from reconf.site import Site
from reconf.verify.checks_electrical import check_cells, check_converter, check_modules, check_window
from reconf.verify.checks_permission import check_bus, check_permission, check_shape, check_values
from reconf.verify.checks_switching import check_closing, check_switches, check_trim, closing
from reconf.verify.circuit import Sources, compiled_bounds, sources
from reconf.verify.context import History, build_context
from reconf.verify.findings import Findings, compiled_held
from reconf.verify.outputs import safe_outputs
from reconf.verify.tables import build_tables

TICK_JITTER = 0.5
"""Share of a tick by which a slot may begin early without breaking the dwell."""


def prepare() -> None:
    """Load the compiled loops, so that no tick waits for them."""
    compiled_held()
    compiled_bounds()


def verify(
    site: Site,
    image: SiteImage,
    estimate: Estimate,
    envelope: Envelope,
    in_force: SlotCommand,
    proposed: SlotCommand,
    *,
    dt_s: float,
    history: History | None = None,
) -> VerifiedCommand | Refused:
    """Let `proposed` through, or name every rule it breaks.

    Independent of the optimizer and of how the envelope was made: currents, voltages and powers are
    recomputed from the image, the estimate and the limit tables; the envelope is held against as well. A
    string of which only *less* is asked (see `reconf.verify.context.resting`) is never refused.

    Args:
        site: what the site is.
        image: readings of this tick.
        estimate: state of every module.
        envelope: limits of this tick.
        in_force: the command that stands in the nodes now (the step before this one).
        proposed: what should stand there next.
        dt_s: control time between ticks [s].
        history: what cannot be seen in the image; None: nothing was switched lately.
    """
    outcome = verify_steps(site, image, estimate, envelope, in_force, (proposed,), dt_s=dt_s, history=history)
    return outcome if isinstance(outcome, Refused) else outcome[0]


def _one(
    site: Site,
    image: SiteImage,
    estimate: Estimate,
    envelope: Envelope,
    in_force: SlotCommand,
    proposed: SlotCommand,
    *,
    dt_s: float,
    history: History,
    source: Sources,
) -> VerifiedCommand | Refused:
    """`verify` of one step, with the `sources` of this image and estimate."""
    tables = site.derived(build_tables)
    found = Findings()
    check_shape(found, tables, proposed)
    if not found.violations:
        check_values(found, tables, proposed)
    if found.violations:
        return Refused(tuple(found.violations), image.time_s)
    slots_s = site.allocator.min_dwell_slots * site.timing.slot_s
    dwell_s = slots_s - TICK_JITTER * site.timing.tick_s
    most = np.ceil(site.timing.interval_s / max(slots_s, site.timing.tick_s)) + 1.0
    # readings may be NaN or inf: comparisons with them fail on purpose, and are not worth a warning
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        c = build_context(tables, image, estimate, envelope, in_force, proposed, history, dt_s, source)
        check_permission(found, c)
        check_bus(found, c)
        check_window(found, c)
        check_modules(found, c)
        check_cells(found, c)
        check_converter(found, c)
        check_trim(found, c)
        check_switches(found, c, dwell_s, float(most))
        check_closing(found, c)
    if found.violations:
        return Refused(tuple(found.violations), image.time_s)
    return VerifiedCommand(
        command=proposed,
        time_s=image.time_s,
        min_margin_frac=found.margin_frac,
        closes=closing(c),
        outputs=safe_outputs(image, envelope),
    )


def verify_steps(
    site: Site,
    image: SiteImage,
    estimate: Estimate,
    envelope: Envelope,
    in_force: SlotCommand,
    steps: Sequence[SlotCommand],
    *,
    dt_s: float,
    history: History | None = None,
) -> tuple[VerifiedCommand, ...] | Refused:
    """Verify a staged change step by step; one refused step refuses the change.

    Each step is judged as following the one before it, read back: whoever writes the steps stops at the
    first that is not confirmed.
    """
    history = history or History()
    with np.errstate(invalid="ignore", over="ignore"):
        source = sources(site.derived(build_tables), image, estimate)
    passed: list[VerifiedCommand] = []
    for step in steps:
        outcome = _one(
            site, image, estimate, envelope, in_force, step, dt_s=dt_s, history=history, source=source
        )
        if isinstance(outcome, Refused):
            return outcome
        passed.append(outcome)
        history = history.after_step(in_force, step)
        in_force = step
    return tuple(passed)
