"""Trim currents: who gives and who takes on a string's trim bus, at fixed through-charge currents.

    minimise   sum R_i*(2*sign*q_i*t_i + t_i^2) + w_i*sign*t_i + mu_i/2*(q_i + sign*t_i - c_i)^2
               + (1 - eta_i)*U_i*max(t_i, 0)
    subject to sum over givers eta_i*U_i*t_i = sum over takers U_i*|t_i|,   -take_i <= t_i <= give_i

One price theta per string (value of a watt on the trim bus) and a closed form per module. Between
theta*eta - (1 - eta) and theta a module rests: that dead band is the break-even test, since what is moved
must be worth more than what the two conversions burn.
"""

from __future__ import annotations

import numpy as np

from optimizer.currents import Padded
from optimizer.model import Model
from optimizer.result import AllocationInput
from reconf.arrays import BoolArray, FloatArray
from reconf.compiled import Engine, engine_for

STEPS = 60
MIN_TRIM_A = 0.05
"""Below this the converter's own idle loss is not worth it."""
REST_HOURS = 1.0
"""Time in which balancing at rest means to move what is stranded."""


def trim_currents(model: Model, padded: Padded, through_a: FloatArray, engine: Engine = "auto") -> FloatArray:
    """(M,) trim currents, out of the module positive, balanced on every string's bus."""
    able = model.used[model.string_of]
    give = np.where(able, model.trim_give_a, 0.0)
    take = np.where(able, model.trim_take_a, 0.0)
    if not (give.any() and take.any()):
        return np.zeros(model.n_modules)
    pull = model.sign * (
        2.0 * model.resistance_ohm * through_a
        + model.price_w_per_a
        + model.weight_w_per_a2 * (through_a - model.target_a)
    )
    stiff = 2.0 * model.resistance_ohm + model.weight_w_per_a2
    fast = engine_for(engine) == "compiled"
    trim = _balanced(padded, pull, stiff, model.emf_v, model.trim_efficiency_frac, give, take, fast=fast)
    return _without_trifles(model, trim)


def _balanced(
    padded: Padded,
    pull: FloatArray,
    stiff: FloatArray,
    volts: FloatArray,
    eta: FloatArray,
    give: FloatArray,
    take: FloatArray,
    *,
    fast: bool,
) -> FloatArray:
    """Bisect theta per string until what goes onto the trim bus comes off it."""
    h, k, u, e, g, d = (
        padded.take(x, b) for x, b in zip((pull, stiff, volts, eta, give, take), _BLANK, strict=True)
    )

    low = ((h - k * d) / u).min(axis=1) - 1.0
    high = ((h + k * g + (1.0 - e) * u) / (e * u)).max(axis=1) + 1.0
    if fast:
        from optimizer import kernels_trim

        t: FloatArray = kernels_trim.bisected(h, k, u, e, g, d, low, high, STEPS)
    else:
        t = _bisected(h, k, u, e, g, d, low, high)
    return padded.flat(_rebalanced(t, u, e))


def _bisected(
    h: FloatArray, k: FloatArray, u: FloatArray, e: FloatArray, g: FloatArray, d: FloatArray,
    low: FloatArray, high: FloatArray,
) -> FloatArray:  # fmt: skip
    """Trim (S, N) at the price of each string at which its bus balances; (S, N) and (S,)."""

    def respond(theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        level = theta[:, None]
        out = np.clip((level * e * u - (1.0 - e) * u - h) / k, 0.0, g)
        into = np.clip((level * u - h) / k, -d, 0.0)
        t = out + into
        return t, (u * (e * out + into)).sum(axis=1)

    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        _, excess = respond(middle)
        low, high = np.where(excess < 0.0, middle, low), np.where(excess < 0.0, high, middle)
    return respond(0.5 * (low + high))[0]


_BLANK = (0.0, 1.0, 1.0, 1.0, 0.0, 0.0)


def _rebalanced(t: FloatArray, u: FloatArray, e: FloatArray) -> FloatArray:
    """Scale the larger side down, as the hardware would, so that the set points balance exactly."""
    given, taken = (e * u * np.maximum(t, 0.0)).sum(axis=1), (u * np.maximum(-t, 0.0)).sum(axis=1)
    lesser = np.minimum(given, taken)
    out = np.where(given > 0.0, lesser / np.where(given > 0.0, given, 1.0), 0.0)
    into = np.where(taken > 0.0, lesser / np.where(taken > 0.0, taken, 1.0), 0.0)
    return np.where(t > 0.0, t * out[:, None], t * into[:, None])


def balanced(padded: Padded, model: Model, trim_a: FloatArray) -> FloatArray:
    """Trim set points (M,) that balance on every string's bus, near given ones."""
    u, e = padded.take(model.emf_v, 1.0), padded.take(model.trim_efficiency_frac, 1.0)
    trim = padded.flat(_rebalanced(padded.take(trim_a, 0.0), u, e))
    return _without_trifles(model, trim)


def _without_trifles(model: Model, trim: FloatArray) -> FloatArray:
    """No trim in strings where no module would give or take a current worth its converter's idle loss."""
    peak = np.zeros(model.n_strings)
    np.maximum.at(peak, model.string_of, np.abs(trim))
    return np.where(peak[model.string_of] >= MIN_TRIM_A, trim, 0.0)


def rest_trim(model: Model, padded: Padded, asked: AllocationInput) -> FloatArray:
    """(M,) trim at rest: what no later discharge could use goes to the others.

    With K modules of N inserted the longest discharge takes min(r_i, rho) from each, where
    sum min(r_i, rho) = K*rho; what a module holds above rho is stranded. It is moved when the energy it adds
    exceeds what the conversion and the resistances burn, in watts at the trim current itself.
    """
    able = model.used & asked.request.connected
    r = padded.take(asked.estimate.remaining_ah, 0.0)
    mean_v = model.string_sum(model.emf_v) / np.maximum(np.diff(model.start), 1)
    count = np.maximum(model.slot_min_v / np.maximum(mean_v, 1.0), 1.0)
    level = common_level_ah(r, padded.real, count)
    stranded = np.where(padded.real, np.maximum(r - level[:, None], 0.0), 0.0)
    room = np.where(padded.real, np.maximum(level[:, None] - r, 0.0), 0.0)
    give = np.minimum(stranded / REST_HOURS, padded.take(model.trim_give_a, 0.0))
    take = np.minimum(room / REST_HOURS, padded.take(model.trim_take_a, 0.0))
    u, e, ohm = (padded.take(x, 1.0) for x in (model.emf_v, model.trim_efficiency_frac, model.resistance_ohm))
    t = _rebalanced(np.where(give > 0.0, give, -take), u, e)
    gained = (u * np.maximum(-t, 0.0)).sum(axis=1)
    burnt = ((1.0 - e) * u * np.maximum(t, 0.0) + ohm * t**2).sum(axis=1)
    pays = able & (gained > burnt)
    return _without_trifles(model, padded.flat(np.where(pays[:, None], t, 0.0)))


def common_level_ah(remaining_ah: FloatArray, real: BoolArray, count: FloatArray) -> FloatArray:
    """Level rho (S,) with sum min(r_i, rho) = K*rho: what every module gives in the longest discharge.

    Arrays (S, N) and K (S,). Sorted descending, the j fullest are never bypassed and
    rho = (sum of the rest)/(K - j) for the first j at which that is at least the next module's charge.
    """
    r = -np.sort(-np.where(real, remaining_ah, 0.0), axis=1)
    total = r.sum(axis=1)
    k = np.minimum(count, real.sum(axis=1))
    before = np.concatenate((np.zeros((r.shape[0], 1)), np.cumsum(r, axis=1)[:, :-1]), axis=1)
    left = k[:, None] - np.arange(r.shape[1])[None, :]
    level = np.where(left > 1e-9, (total[:, None] - before) / np.where(left > 1e-9, left, 1.0), np.inf)
    fits = level >= r
    first = fits.argmax(axis=1)
    rho: FloatArray = level[np.arange(r.shape[0]), first]
    return np.where(np.isfinite(rho), rho, r.min(axis=1))


def _is_rest(model: Model, asked: AllocationInput) -> bool:
    """No power is asked and balancing is wanted."""
    return asked.request.balance and model.power_w == 0.0


def plan_trim(
    model: Model, padded: Padded, asked: AllocationInput, through_a: FloatArray, engine: Engine = "auto"
) -> FloatArray:
    """The trim of this interval, at rest or under way."""
    if _is_rest(model, asked):
        return rest_trim(model, padded, asked)
    return trim_currents(model, padded, through_a, engine)
