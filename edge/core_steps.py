"""From a proposal to verified steps: staging, verification, and what remains when verify says no."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge import shaping
from edge.lessening import TRIES, Tried, less, strings_named
from reconf.actuation import Receipt, Refused, SlotCommand, VerifiedCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.readings import SiteImage
from reconf.replacing import replace
from reconf.sequences import hold_zero
from reconf.site import Site
from reconf.switching import stage
from reconf.verify import History, verify_steps

FULLER = 2
"""Modules at most that are added to a string whose voltage would fall below its window."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A proposal that went through staging and verification, or what was left of it."""

    steps: tuple[VerifiedCommand, ...]
    """Empty only where not even power 0 could be verified (nothing is written then)."""
    refused: Refused | None
    """Why power had to go to 0 somewhere, if it had to."""
    reduced: Refused | None = None
    """Why it is not quite what was proposed that was let through; None where it is, or where power had to go
    to 0."""
    share: FloatArray | None = None
    """(S,) of the proposed power that was let through; None where that is all of it."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a tick's proposals are judged against."""

    image: SiteImage
    estimate: Estimate
    envelope: Envelope
    dt_s: float
    history: History
    out: BoolArray
    """(M,) out of service: their writes cannot be confirmed, and verify counts on neither state."""

    def judge(
        self, site: Site, in_force: SlotCommand, steps: Sequence[SlotCommand]
    ) -> tuple[VerifiedCommand, ...] | Refused:
        """Verify `steps`, each after the one before."""
        return verify_steps(
            site, self.image, self.estimate, self.envelope, in_force, steps,
            dt_s=self.dt_s, history=self.history,
        )  # fmt: skip

    def again(
        self, site: Site, in_force: SlotCommand, steps: Sequence[SlotCommand]
    ) -> tuple[VerifiedCommand, ...]:
        """What is left of a change after a step was only partly confirmed; nothing where that is refused."""
        outcome = self.judge(site, in_force, steps)
        return () if isinstance(outcome, Refused) else outcome


def judge(site: Site, case: Case, in_force: SlotCommand, proposal: SlotCommand) -> Judged:
    """Verify the staged `proposal`; where it is refused, ever less of it.

    Where the voltage would fall below the window (it falls between two plans) one or two modules more are put
    in, which costs no power at all. Then the same with the converters stopped for the switching, which is a
    dip of power, where nothing else leads out from below the window. Then less power on the strings that a
    violation names, as much less as is found to be needed, and 0 on those that no less helps; then 0 on all
    that were named, then on all: a fault on one string must not take the others' power.
    """
    whole = _staged(site, case, in_force, proposal, may_stop=False)
    if not isinstance(whole, Refused):
        return Judged(whole, None)
    for other in _as_much(site, case, in_force, proposal, whole):
        staged = _staged(site, case, in_force, other, may_stop=False)
        if not isinstance(staged, Refused):
            return Judged(staged, None, reduced=whole)
    if _too_low(site, whole).any():
        for other in (proposal, *_as_much(site, case, in_force, proposal, whole)):
            staged = _staged(site, case, in_force, other)
            if not isinstance(staged, Refused):
                return Judged(staged, None, reduced=whole)
    tried = Tried.nothing(site.topology.n_strings)
    refused, named = whole, named_strings(site, whole)
    for _ in range(TRIES):
        tried = less(site, tried, refused)
        staged = _staged(site, case, in_force, _lessened(site, case, in_force, proposal, tried))
        if not isinstance(staged, Refused):
            stopped = bool((tried.share == 0.0).any())
            return Judged(staged, whole if stopped else None, None if stopped else whole, tried.share)
        refused, named = staged, named | named_strings(site, staged)
    share = np.where(named, 0.0, 1.0)
    rest = _staged(site, case, in_force, _without(site, in_force, proposal, named))
    if not isinstance(rest, Refused):
        return Judged(rest, whole, share=share)
    zero = case.again(site, in_force, (hold_zero(in_force),))
    return Judged(zero, whole, share=np.zeros_like(share))


def _as_much(
    site: Site, case: Case, in_force: SlotCommand, proposal: SlotCommand, refused: Refused
) -> Iterator[SlotCommand]:
    """Proposals for as much power as the one that was refused, best first."""
    named = named_strings(site, refused)
    if all(v.rule.startswith("trim") for v in refused.violations):
        yield _untrimmed(site, proposal, named)
    low = _too_low(site, refused)
    fuller = proposal
    for _ in range(FULLER if low.any() else 0):
        fuller = _fuller(site, case, fuller, low)
        yield fuller
    yield _held(site, case, in_force, proposal, named)


def _untrimmed(site: Site, proposal: SlotCommand, where: BoolArray) -> SlotCommand:
    """`proposal` without trim on the strings `where`."""
    still = where[site.topology.string_of]
    return replace(proposal, trim_current_a=np.where(still, 0.0, proposal.trim_current_a))


def _held(
    site: Site, case: Case, in_force: SlotCommand, proposal: SlotCommand, where: BoolArray
) -> SlotCommand:
    """`proposal`, but with the switches as they stand on the strings `where`."""
    modules = where[site.topology.string_of]
    none = np.zeros_like(where)
    same = merged(proposal, in_force, none, modules)
    limit_a = shaping.instantaneous_a(site.topology, same, case.envelope, same.power_w)
    limit_a = np.floor(10.0 * np.minimum(same.current_limit_a, limit_a)) / 10.0
    return replace(same, current_limit_a=np.where(where, limit_a, same.current_limit_a))


def _too_low(site: Site, refused: Refused) -> BoolArray:
    """(S,) strings whose voltage would fall below the window."""
    low = {v.subject for v in refused.violations if v.rule.endswith("window_min")}
    return np.array([s.name in low for s in site.strings])


def _fuller(site: Site, case: Case, proposal: SlotCommand, where: BoolArray) -> SlotCommand:
    """`proposal` with one module more in each of the strings `where`, as far as there is one.

    Of those that bear the string's current at once it is the one that may bear most on average.
    """
    topology, envelope = site.topology, case.envelope
    of = topology.string_of
    out = proposal.power_w[of] >= 0.0
    now_a = np.where(out, envelope.discharge_now_a, envelope.charge_now_a)
    mean_a = np.where(out, envelope.discharge_avg_a, envelope.charge_avg_a)
    free = shaping.insertable(envelope) & ~proposal.inserted & ~proposal.duty_mode & ~case.out
    free &= now_a >= proposal.current_limit_a[of]
    inserted = proposal.inserted.copy()
    for s in np.flatnonzero(where):
        mine = np.flatnonzero(free & (of == s))
        if mine.size:
            inserted[mine[np.argmax(mean_a[mine])]] = True
    return replace(proposal, inserted=inserted)


def _lessened(
    site: Site, case: Case, in_force: SlotCommand, proposal: SlotCommand, tried: Tried
) -> SlotCommand:
    """`proposal` with a share of the power and of the current limit of each string, and 0 as `_without`."""
    if tried.stay.any():
        proposal = _held(site, case, in_force, proposal, tried.stay)
    share, whole = tried.share, tried.share == 1.0
    limit_a = np.floor(10.0 * share * proposal.current_limit_a) / 10.0
    smaller = replace(
        _untrimmed(site, proposal, tried.still),
        power_w=np.where(whole, proposal.power_w, np.trunc(share * proposal.power_w)),
        current_limit_a=np.where(whole, proposal.current_limit_a, limit_a),
    )
    return _without(site, in_force, smaller, share == 0.0)


def _staged(
    site: Site, case: Case, in_force: SlotCommand, wanted: SlotCommand, *, may_stop: bool = True
) -> tuple[VerifiedCommand, ...] | Refused:
    """Stage and verify; a proposal that changes nothing is verified all the same."""
    steps = stage(site, case.image, case.estimate, case.envelope, in_force, wanted, may_stop=may_stop)
    return case.judge(site, in_force, steps or (wanted,))


def failed_strings(site: Site, receipt: Receipt, out: BoolArray) -> BoolArray:
    """(S,) strings of which a node in service did not confirm."""
    topology = site.topology
    missing = ~receipt.module_confirmed & ~out
    failed: BoolArray = np.bincount(topology.string_of[missing], minlength=topology.n_strings) > 0
    return failed | ~receipt.string_confirmed


def named_strings(site: Site, refused: Refused) -> BoolArray:
    """(S,) strings that violations name, by their own name or by a module's; all where the site is named."""
    mask = np.zeros(site.topology.n_strings, dtype=np.bool_)
    for violation in refused.violations:
        mask[list(strings_named(site, violation))] = True
    return mask


def _without(site: Site, in_force: SlotCommand, proposal: SlotCommand, where: BoolArray) -> SlotCommand:
    """`proposal`, but power 0 and nothing moved on the strings `where`."""
    return merged(proposal, hold_zero(in_force), where, where[site.topology.string_of])


def merged(base: SlotCommand, other: SlotCommand, strings: BoolArray, modules: BoolArray) -> SlotCommand:
    """`base` with the values of `other` on some strings and modules."""
    return SlotCommand(
        inserted=np.where(modules, other.inserted, base.inserted),
        duty_mode=np.where(modules, other.duty_mode, base.duty_mode),
        duty_frac=np.where(modules, other.duty_frac, base.duty_frac),
        trim_current_a=np.where(modules, other.trim_current_a, base.trim_current_a),
        mode=np.where(strings, other.mode, base.mode),
        power_w=np.where(strings, other.power_w, base.power_w),
        bus_voltage_v=np.where(strings, other.bus_voltage_v, base.bus_voltage_v),
        current_limit_a=np.where(strings, other.current_limit_a, base.current_limit_a),
        contactor=np.where(strings, other.contactor, base.contactor),
    )


def after_receipt(before: SlotCommand, step: SlotCommand, receipt: Receipt, out: BoolArray) -> SlotCommand:
    """What stands in the nodes now: `step` where it was confirmed, what stood before elsewhere.

    Modules that are `out` of service count as commanded: verify takes them for either state anyway, and
    nothing waits for them.
    """
    return merged(before, step, receipt.string_confirmed, receipt.module_confirmed | out)


def joint(first: Receipt | None, then: Receipt) -> Receipt:
    """Receipt of two steps of one tick: confirmed where both were."""
    if first is None:
        return then
    return replace(
        then,
        module_confirmed=first.module_confirmed & then.module_confirmed,
        string_confirmed=first.string_confirmed & then.string_confirmed,
        registers_written=first.registers_written + then.registers_written,
        failures=first.failures + then.failures,
        outputs_confirmed=first.outputs_confirmed and then.outputs_confirmed,
    )
