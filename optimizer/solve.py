"""The whole interval: share of power, string currents, through-charge currents, trim."""

from __future__ import annotations

from typing import Any

import numpy as np

from optimizer.bound import Column, PricedStrings
from optimizer.currents import GRID, ZOOMS, Padded, best_currents, deliverable_w
from optimizer.fixed import make
from optimizer.jumps import better_currents, has_jumps
from optimizer.model import Model
from optimizer.result import AllocationInput
from optimizer.share import share_by_weight
from optimizer.solution import Solution, cost_of
from optimizer.structured import solve_fixed
from optimizer.trim import balanced, plan_trim
from reconf.arrays import FloatArray, middle
from reconf.compiled import Engine, engine_for
from reconf.replacing import replace

ROUNDS = 4
"""Alternations between string currents and trim currents; each lowers the cost."""
SHARE_ROUNDS = 8
SHARE_SETTLED_FRAC = 0.002
"""Power whose move between strings is not worth another look, as a share of the site's."""
JUMP_ROUNDS = 12
JUMP_GAIN_FRAC = 1e-4
"""A change of current that saves less than this share of the cost is not tried."""
TRIM_GAIN_FRAC = 1e-4
"""Trim that lowers the cost by less than this is left out."""


def deliverable(model: Model, engine: Engine = "auto") -> FloatArray:
    """Most bus power of each string (S,) with trim idle."""
    fast = engine_for(engine) == "compiled"
    power, _ = _deliverable(model, Padded.of(model), np.zeros(model.n_modules), fast)
    return power


def solve(model: Model, asked: AllocationInput, engine: Engine = "auto") -> Solution:
    """Best plan found. Currents and trim alternate: each is solved exactly with the other held."""
    padded = Padded.of(model)
    best = solve_currents(model, padded, np.zeros(model.n_modules), engine)
    if asked.request.balance and model.power_w == 0.0:
        return _near(model, padded, plan_trim(model, padded, asked, best.through_a, engine), best, engine)
    return _trimmed(model, padded, asked, best, engine)


def _trimmed(
    model: Model, padded: Padded, asked: AllocationInput, best: Solution, engine: Engine
) -> Solution:
    """Alternate trim and currents while the cost falls."""
    value = cost_of(model, best).total_w
    for _ in range(ROUNDS):
        trim = plan_trim(model, padded, asked, best.through_a, engine)
        if not trim.any() or np.array_equal(trim, best.trim_a):
            break
        tried = _near(model, padded, trim, best, engine)
        tried_value = cost_of(model, tried).total_w
        if tried_value > value - TRIM_GAIN_FRAC * abs(value):
            break
        best, value = tried, tried_value
    return best


def solve_currents(model: Model, padded: Padded, trim_a: FloatArray, engine: Engine = "auto") -> Solution:
    """Share, currents and through-charge currents with trim held.

    The first share is by energy, at which all modules end together. Where limits make a watt dearer in one
    string than in another, power moves along the strings' cost curves until their prices meet.
    """
    fast = engine_for(engine) == "compiled"
    limit_w, top_a = _deliverable(model, padded, trim_a, fast)
    bus = share_by_weight(model.string_sum(model.target_a * model.emf_v), limit_w, model.power_w)
    best = at_currents(model, _currents(model, padded, bus, top_a, trim_a, fast), trim_a, limit_w, engine)
    if model.power_w >= (1.0 - 1e-6) * float(limit_w.sum()):
        return best  # every string gives what it can: nothing to choose
    best = _shared(model, padded, best, top_a, SHARE_ROUNDS, engine)
    return _jumped(model, padded, best, engine)


def from_prices(
    model: Model, padded: Padded, asked: AllocationInput, strings: PricedStrings, given: Column,
    before: Solution, engine: Engine = "auto",
) -> Solution:  # fmt: skip
    """The best plan near what the strings answered to one price.

    Begun twice, since neither start is always the better one: at their currents with the power as it falls,
    and at their power with the currents that give it best; from there everything is free.
    """
    fast, limit_w = engine_for(engine) == "compiled", before.deliverable_w
    trim = balanced(padded, model, strings.trim_a(given.current_a, given.price))
    still = np.zeros(model.n_modules)
    starts = [
        _settled(model, padded, asked, at_currents(model, given.current_a, t, limit_w, engine), engine)
        for t in (trim, still)
    ]
    bus = share_by_weight(np.maximum(given.bus_w, 0.0), limit_w, model.power_w)
    current = _currents(model, padded, bus, given.current_a, trim, fast)
    starts.append(at_currents(model, current, trim, limit_w, engine))
    ends = [
        _trimmed(model, padded, asked, _shared(model, padded, s, s.current_a, SHARE_ROUNDS, engine), engine)
        for s in starts
    ]
    return min(ends, key=lambda s: cost_of(model, s).total_w)


def _settled(
    model: Model, padded: Padded, asked: AllocationInput, held: Solution, engine: Engine
) -> Solution:
    """Trim and through-charge currents by turns with the string currents held."""
    value = cost_of(model, held).total_w
    for _ in range(ROUNDS):
        trim = plan_trim(model, padded, asked, held.through_a, engine)
        tried = at_currents(model, held.current_a, trim, held.deliverable_w, engine)
        tried_value = cost_of(model, tried).total_w
        if tried_value > value - TRIM_GAIN_FRAC * abs(value):
            break
        held, value = tried, tried_value
    return held


def _near(model: Model, padded: Padded, trim_a: FloatArray, before: Solution, engine: Engine) -> Solution:
    """The same with new trim currents, begun at the share that was best before."""
    fast = engine_for(engine) == "compiled"
    limit_w, top_a = _deliverable(model, padded, trim_a, fast)
    bus = share_by_weight(np.maximum(before.bus_w, 0.0), limit_w, model.power_w)
    found = at_currents(model, _currents(model, padded, bus, top_a, trim_a, fast), trim_a, limit_w, engine)
    return _shared(model, padded, found, top_a, 2, engine)


def _shared(
    model: Model, padded: Padded, best: Solution, top_a: FloatArray, rounds: int, engine: Engine
) -> Solution:
    """Power moved between strings while that lowers the cost."""
    fast, trim_a, limit_w = engine_for(engine) == "compiled", best.trim_a, best.deliverable_w
    value, step = cost_of(model, best).total_w, 1.0
    for _ in range(rounds):
        shift = _towards_one_price(model, best)
        if float(np.abs(shift).max(initial=0.0)) < SHARE_SETTLED_FRAC * max(model.power_w, 1.0):
            break
        bus = share_by_weight(np.maximum(best.bus_w + step * shift, 0.0), limit_w, model.power_w)
        current = _currents(model, padded, bus, top_a, trim_a, fast)
        tried = at_currents(model, current, trim_a, limit_w, engine)
        tried_value = cost_of(model, tried).total_w
        if tried_value < value:
            best, value = tried, tried_value
        else:
            step *= 0.4
    return best


def _jumped(model: Model, padded: Padded, best: Solution, engine: Engine) -> Solution:
    """Let strings change to a better current across a module's limit while that lowers the whole cost."""
    value, refused = cost_of(model, best).total_w, np.zeros(model.n_strings, dtype=np.bool_)
    for _ in range(JUMP_ROUNDS):
        if not has_jumps(model, best):
            break
        price = middle(best.string_price[model.used]) if model.used.any() else best.price
        current, saved = better_currents(model, padded, best, price)
        saved = np.where(refused, 0.0, saved)
        if saved.max() < JUMP_GAIN_FRAC * max(value, 1.0):
            break
        chosen = np.argsort(-saved)[: 1 + model.n_strings // 8]
        chosen = chosen[saved[chosen] > 0.1 * saved.max()]
        wanted = best.current_a.copy()
        wanted[chosen] = current[chosen]
        tried = _spread(model, padded, wanted, best, engine)
        tried_value = cost_of(model, tried).total_w
        if tried_value < value:
            best, value = tried, tried_value
            refused[:] = False
        else:
            refused[chosen] = True
    return best


def _spread(
    model: Model, padded: Padded, current_a: FloatArray, before: Solution, engine: Engine
) -> Solution:
    """Answer with one string's current changed: the others take the difference at their own best currents."""
    fast = engine_for(engine) == "compiled"
    jumped = current_a != before.current_a
    alone = at_currents(model, current_a, before.trim_a, before.deliverable_w, engine)
    left = model.power_w - float(alone.bus_w[jumped].sum())
    others = np.where(jumped, 0.0, np.maximum(before.bus_w, 0.0))
    bus = share_by_weight(others, np.where(jumped, 0.0, before.deliverable_w), max(left, 0.0))
    found = _currents(model, padded, bus, before.current_a, before.trim_a, fast)
    found = np.where(jumped, current_a, found)
    return at_currents(model, found, before.trim_a, before.deliverable_w, engine)


def _towards_one_price(model: Model, found: Solution) -> FloatArray:
    """(S,) bus power to move: price differences over the slopes of the strings' marginal costs."""
    held = found.current_a[model.string_of]
    free = (found.through_a > 1e-6) & (found.through_a < held * (1.0 - 1e-6)) & (held <= model.limit_now_a)
    give_way = model.string_sum(np.where(free, model.emf_v**2 / model.weight_w_per_a2, 0.0))
    able = model.used & (found.current_a > 0.0)
    give_way = np.where(able, np.maximum(give_way, 1e-3 * give_way.max(initial=0.0)), 0.0)
    if give_way.sum() <= 0.0:
        return np.zeros(model.n_strings)
    mean = float(give_way @ found.string_price) / float(give_way.sum())
    shift: FloatArray = give_way * (mean - found.string_price)
    return np.maximum(shift, -0.5 * np.maximum(found.bus_w, 0.0))


def at_currents(
    model: Model, current_a: FloatArray, trim_a: FloatArray, limit_w: FloatArray, engine: Engine = "auto"
) -> Solution:
    """Exact answer at given string currents."""
    if engine_for(engine) == "compiled":
        from optimizer import kernels_fixed

        sound, q, bus, price, string_price = kernels_fixed.answer(
            model.start, model.sign, model.emf_v, model.resistance_ohm, model.price_w_per_a,
            model.weight_w_per_a2, model.target_a, model.limit_now_a, model.limit_avg_a, model.forced,
            model.slot_min_v, model.slot_max_v, model.power_max_w, model.r_on_ohm, model.loss_fixed_w,
            model.loss_linear_frac, model.loss_quadratic_ohm, model.power_w, model.unserved_price,
            current_a, trim_a,
        )  # fmt: skip
        if sound:
            return Solution(current_a, q, trim_a, bus, limit_w, price, string_price)
        # whatever is wrong with the data, `make` names it
    fixed = make(model, current_a, trim_a)
    answer = solve_fixed(fixed, engine)
    load = model.string_sum(fixed.v * answer.q)
    bus = fixed.g * load - fixed.k
    return Solution(current_a, answer.q, trim_a, bus, limit_w, answer.price, answer.string_price)


def _deliverable(
    model: Model, padded: Padded, trim_a: FloatArray, fast: bool
) -> tuple[FloatArray, FloatArray]:
    if not fast:
        return deliverable_w(model, padded, trim_a)
    from optimizer import kernels_currents

    arrays = (*_arrays(model, trim_a), GRID, ZOOMS)
    power, at = kernels_currents.deliverable(*arrays)
    return power, at


def _currents(
    model: Model,
    padded: Padded,
    bus_w: FloatArray,
    top_a: FloatArray,
    trim_a: FloatArray,
    fast: bool,
) -> FloatArray:
    if not fast:
        return best_currents(model, padded, bus_w, top_a, trim_a)
    from optimizer import kernels_currents

    arrays = (*_arrays(model, trim_a), bus_w, top_a, GRID, ZOOMS)
    currents: FloatArray = kernels_currents.best_currents(*arrays)
    return currents


def _arrays(model: Model, trim_a: FloatArray) -> tuple[Any, ...]:
    """Arguments of the compiled scans, in their order."""
    return (
        model.start, model.used, model.sign, model.emf_v, model.resistance_ohm, trim_a, model.price_w_per_a,
        model.weight_w_per_a2, model.target_a - model.sign * trim_a, model.limit_now_a, model.limit_avg_a,
        model.forced, model.slot_min_v, model.slot_max_v, model.current_max_a, model.power_max_w,
        model.r_on_ohm, model.loss_fixed_w, model.loss_linear_frac, model.loss_quadratic_ohm,
    )  # fmt: skip


def without_trim(model: Model) -> Model:
    """The same interval with every trim converter idle."""
    none = np.zeros(model.n_modules)
    return replace(model, trim_give_a=none, trim_take_a=none)
