"""The last word before the wire while a site is proven: `permit`.

Independent of who made the command: everything is recomputed from the image and the site file. A command
that can carry current must pass `reconf.verify.verify` as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from reconf.actuation import ConverterMode, Refused, SlotCommand, VerifiedCommand, Violation
from reconf.arrays import BoolArray, FloatArray
from reconf.commissioning import power, trim
from reconf.commissioning.insertion import MOST_TOGETHER
from reconf.commissioning.rules import TRIAL_RULES, Trial
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import LATCHES
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.protection.limits import Tier
from reconf.readings import SiteImage
from reconf.sequences.nodes import RC1_WATCHDOG_S, RM1_WATCHDOG_S
from reconf.site import Site
from reconf.verify import verify

LOW_FRAC = 0.9
"""Of the window's lower end: a string kept below this cannot precharge, whatever anybody commands."""
LINK_DEAD_FRAC = 0.10
"""Of the window's lower end: a link above it behind an open contactor is live."""
BY_MODULE = ("inserted", "duty_mode", "duty_frac", "trim_current_a")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the site when a command is judged."""

    image: SiteImage
    estimate: Estimate
    envelope: Envelope
    in_force: SlotCommand
    module_watchdog_s: FloatArray
    """(M,) WATCHDOG as read back; NaN: not read."""
    string_watchdog_s: FloatArray
    """(S,)"""
    faulty: BoolArray
    """(S,) strings with a module that failed a step before."""
    dt_s: float
    watchdogs_s: tuple[float, float] = (RM1_WATCHDOG_S, RC1_WATCHDOG_S)
    """What they must be: modules, converters."""


@dataclass(slots=True)
class _Findings:
    """Violations of one run."""

    trial: Trial
    violations: list[Violation] = field(default_factory=list)

    def add(self, rule: str, subject: str, found: float, allowed: float) -> None:
        row = TRIAL_RULES[rule]
        if self.trial in row.trials:
            self.violations.append(Violation(rule, subject, found, allowed, row.unit, row.text))

    def flags(self, rule: str, mask: BoolArray, subjects: tuple[str, ...]) -> None:
        for k in map(int, np.flatnonzero(mask)):
            self.add(rule, subjects[k], 1.0, 0.0)

    def at_most(
        self, rule: str, found: FloatArray, allowed: FloatArray, where: BoolArray, names: tuple[str, ...]
    ) -> None:
        """`found` <= `allowed` wherever `where`; NaN breaks the rule."""
        for k in map(int, np.flatnonzero(where & ~(found <= allowed + 1e-9))):
            self.add(rule, names[k], float(found[k]), float(allowed[k]))


def most_trial_v(site: Site) -> FloatArray:
    """(S,) STRING_VOLTAGE that a trial of switches never passes."""
    return np.array([LOW_FRAC * s.converter.voltage_min_v for s in site.strings])


def assumed_v(site: Site, image: SiteImage) -> FloatArray:
    """(M,) voltage of each module, the most its chemistry allows where its reading says nothing."""
    ceiling = np.array(
        [
            m.n_cells * site.limits[m.chemistry]["cell_voltage_v", "max"].tier(Tier.SAFETY)
            for m in site.modules
        ]
    )
    read = image.modules.voltage_v
    plausible = read.good & (read.value > 0.5 * np.array([m.n_cells for m in site.modules]))
    result: FloatArray = np.where(plausible, read.value, ceiling)
    return result


def strings_named(site: Site, refused: Refused) -> BoolArray:
    """(S,) strings that the violations name, by their own name or a module's; all where the site is named."""
    mask = np.zeros(site.topology.n_strings, dtype=np.bool_)
    names, serials = _names(site), site.topology.serials
    for v in refused.violations:
        if v.subject in names:
            mask[names.index(v.subject)] = True
        elif v.subject in serials:
            mask[site.topology.string_of[serials.index(v.subject)]] = True
        else:
            mask[:] = True
    return mask


def permit(
    site: Site, known: Known, proposed: SlotCommand, trial: Trial, *, less: bool = False
) -> VerifiedCommand | Refused:
    """Let `proposed` through, or name every rule it breaks.

    Args:
        site: what the site is.
        known: what is known of it now.
        proposed: what should stand in the nodes next.
        trial: what it is for.
        less: it only takes back; judged by `verify` alone, which never refuses that.
    """
    time_s = known.image.time_s
    found = _Findings(trial)
    _shape(found, site, proposed)
    if found.violations:
        return Refused(tuple(found.violations), time_s)
    if not less:
        with np.errstate(invalid="ignore"):
            _switches(found, site, known, proposed)
            _behind_open(found, site, known, proposed)
            _trim(found, site, proposed)
            _connect(found, site, known, proposed)
        if found.violations:
            return Refused(tuple(found.violations), time_s)
    if trial is Trial.SWITCHES and not less:
        return VerifiedCommand(command=proposed, time_s=time_s, min_margin_frac=0.0)
    return verify(
        site, known.image, known.estimate, known.envelope, known.in_force, proposed, dt_s=known.dt_s
    )


def _names(site: Site) -> tuple[str, ...]:
    return tuple(s.name for s in site.strings)


def _shape(found: _Findings, site: Site, p: SlotCommand) -> None:
    for f in fields(p):
        values = np.asarray(getattr(p, f.name))
        size = site.topology.n_modules if f.name in BY_MODULE else site.topology.n_strings
        if values.shape != (size,):
            found.add("trial_shape", "site", float(values.size), float(size))
        elif not np.isfinite(values.astype(np.float64)).all():
            found.add("trial_numbers", "site", float("nan"), 0.0)


def _switches(found: _Findings, site: Site, known: Known, p: SlotCommand) -> None:
    """Rules about single modules that go in."""
    serials, m = site.topology.serials, known.image.modules
    new = p.inserted & ~known.in_force.inserted
    found.flags("trial_duty", p.duty_mode, serials)
    found.flags("trial_stale", new & ~m.answered, serials)
    found.flags("trial_latched", new & ((m.status & int(LATCHES)) != 0), serials)
    active = new | (p.trim_current_a != 0.0)
    low, high = known.watchdogs_s[1], known.watchdogs_s[0]
    wrong = active & ~(np.abs(known.module_watchdog_s - high) < 0.05)
    found.flags("trial_watchdog", wrong, serials)
    strings = site.topology.sum_by_string(active.astype(np.float64)) > 0.0
    found.flags("trial_watchdog", strings & ~(np.abs(known.string_watchdog_s - low) < 0.05), _names(site))


def _behind_open(found: _Findings, site: Site, known: Known, p: SlotCommand) -> None:
    """Rules of trials behind an open contactor: of strings where a switch moves or trim flows."""
    names, s, t = _names(site), known.image.strings, site.topology
    closed = (s.status & int(Rc1Status.CONTACTOR_CLOSED | Rc1Status.PRECHARGING)) != 0
    active = (p.inserted != known.in_force.inserted) | (p.trim_current_a != 0.0)
    touched = t.sum_by_string(active.astype(np.float64)) > 0.0
    found.flags("trial_contactor", touched & (closed | ~s.answered), names)
    low_v = np.array([x.converter.voltage_min_v for x in site.strings])
    link = np.where(s.link_voltage_v.good, s.link_voltage_v.value, np.nan)
    found.at_most("trial_link", link, LINK_DEAD_FRAC * low_v, touched, names)
    asked = (p.mode != ConverterMode.OFF) | (p.power_w != 0.0) | p.contactor
    found.flags("trial_off", asked, names)
    # writes arrive one by one: those that come may be in before those that go are out
    either = (p.inserted | known.in_force.inserted).astype(np.float64)
    together = t.sum_by_string(either)
    found.at_most("trial_together", together, np.full(t.n_strings, float(MOST_TOGETHER)), touched, names)
    volts, most = assumed_v(site, known.image), most_trial_v(site)
    added = t.sum_by_string(np.where(p.inserted & ~known.in_force.inserted, volts, 0.0))
    seen = np.where(s.voltage_v.good, s.voltage_v.value, np.nan) + added
    found.at_most("trial_voltage", seen, most, touched & (added > 0.0), names)
    found.at_most("trial_voltage", t.sum_by_string(either * volts), most, touched & (added == 0.0), names)
    if (p.trim_current_a != 0.0).any() and p.inserted.any():
        found.add("trial_still", "site", 1.0, 0.0)


def _trim(found: _Findings, site: Site, p: SlotCommand) -> None:
    n = site.topology.n_modules
    limit = np.full(n, trim.TEST_A)
    found.at_most("trial_trim", np.abs(p.trim_current_a), limit, np.ones(n, np.bool_), site.topology.serials)


def _connect(found: _Findings, site: Site, known: Known, p: SlotCommand) -> None:
    """One string, small power, no faulty module in it."""
    names, t = _names(site), site.topology
    if int(p.contactor.sum()) > 1:
        found.add("trial_one_string", "site", float(p.contactor.sum()), 1.0)
    used = p.contactor | (p.mode != ConverterMode.OFF)
    found.flags("trial_faulty", used & known.faulty, names)
    ratings = np.array([x.converter.power_rating_w for x in site.strings])
    found.at_most("trial_power", np.abs(p.power_w), power.RATING_FRAC * ratings, used, names)
    smallest = np.full(t.n_strings, np.inf)
    np.minimum.at(smallest, t.string_of[p.inserted], t.rated_capacity_ah[p.inserted])
    most_a = np.minimum(
        power.TEST_C * smallest,
        power.RATING_FRAC * np.array([x.converter.current_rating_a for x in site.strings]),
    )
    loss = np.array([x.converter.loss_fixed_w / x.converter.voltage_min_v for x in site.strings])
    allowed = power.LIMIT_FACTOR * (1.1 * most_a + loss) + 0.1
    found.at_most("trial_current", p.current_limit_a, allowed, used, names)
