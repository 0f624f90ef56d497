"""Compiled scan of string currents: the steps of `optimizer/currents.py`, one string at a time."""

from __future__ import annotations

import numpy as np

from optimizer.kernels import _string_price
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.compiled import compiled

REL = 1e-9


@compiled
def _load(current: float, i0: int, i1: int, sign: float, emf: FloatArray, ohm: FloatArray, trim: FloatArray,
          wear: FloatArray, mu: FloatArray, c: FloatArray, now: FloatArray, avg: FloatArray,
          forced: BoolArray, v: FloatArray, a: FloatArray, base: FloatArray, rise: FloatArray,
          lo: FloatArray, hi: FloatArray,
          ) -> tuple[float, float]:  # fmt: skip
    """Write the module data at `current`; least and most load of the modules (most < 0: impossible)."""
    least, most, broken = 0.0, 0.0, False
    for i in range(i0, i1):
        able = current <= now[i] * (1.0 + REL)
        v[i] = max(emf[i] - sign * ohm[i] * current - ohm[i] * trim[i], 1e-3)
        a[i] = wear[i] + ohm[i] * (current + 2.0 * sign * trim[i])
        hi[i] = min(current, avg[i]) if able else 0.0
        lo[i] = 0.0
        if forced[i]:
            lo[i], hi[i] = current, current
            broken = broken or not able
        base[i] = c[i] - a[i] / mu[i]
        rise[i] = v[i] / mu[i]
        least += v[i] * lo[i]
        most += v[i] * hi[i]
    return least, -1.0 if broken else most


@compiled
def deliverable(
    start: IntArray, used: BoolArray, sign: float, emf: FloatArray, ohm: FloatArray, trim: FloatArray,
    wear: FloatArray, mu: FloatArray, c: FloatArray, now: FloatArray, avg: FloatArray, forced: BoolArray,
    vmin: FloatArray, vmax: FloatArray, imax: FloatArray, pmax: FloatArray, ron: FloatArray,
    fixed: FloatArray, lin: FloatArray, quad: FloatArray,
    points: int, zooms: int,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Most bus power (S,) and its current (S,); see `optimizer.currents.deliverable_w`."""
    m, n = emf.size, used.size
    v, a, lo, hi = np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    base, rise = np.empty(m), np.empty(m)
    power, at = np.zeros(n), np.zeros(n)
    for s in range(n):
        if not used[s]:
            continue
        i0, i1 = start[s], start[s + 1]
        top = 0.0
        for i in range(i0, i1):
            top = max(top, now[i])
        top = min(top, imax[s])
        width = top / 16.0
        for zoom in range(zooms + 1):
            centre, last = at[s], -1.0
            candidates = i1 - i0 + 16 if zoom == 0 else points
            for j in range(candidates):
                if zoom > 0:
                    current = min(max(centre + width * (2.0 * j / (points - 1) - 1.0), 0.0), top)
                elif j < i1 - i0:
                    current = min(now[i0 + j], top)
                else:
                    current = top * (j - (i1 - i0) + 1) / 16.0
                if current <= 0.0 or current == last:
                    continue
                last = current
                least, most = _load(current, i0, i1, sign, emf, ohm, trim, wear, mu, c, now, avg, forced,
                                    v, a, base, rise, lo, hi)  # fmt: skip
                drop = sign * ron[s] * current**2
                losses = sign * (fixed[s] + (ron[s] + quad[s]) * current**2)
                most = min(most, vmax[s] * current + drop, pmax[s] * (1.0 + sign * lin[s]) + losses)
                if most < max(least, vmin[s] * current + drop) * (1.0 - REL):
                    continue
                bus = (most - losses) / (1.0 + sign * lin[s])
                if bus > power[s]:
                    power[s], at[s] = bus, current
            if zoom > 0:
                width = width * 2.0 / (points - 1)
    return power, at


@compiled
def best_currents(  # noqa: C901, PLR0912 - one flat loop; calls with twenty arrays each would cost its speed
    start: IntArray, used: BoolArray, sign: float, emf: FloatArray, ohm: FloatArray, trim: FloatArray,
    wear: FloatArray, mu: FloatArray, c: FloatArray, now: FloatArray, avg: FloatArray, forced: BoolArray,
    vmin: FloatArray, vmax: FloatArray, imax: FloatArray, pmax: FloatArray, ron: FloatArray,
    fixed: FloatArray, lin: FloatArray, quad: FloatArray, bus: FloatArray, top: FloatArray, points: int,
    zooms: int,
) -> FloatArray:  # fmt: skip
    """Current (S,) that gives `bus` (S,) at least cost, 0 where none does."""
    m, n = emf.size, used.size
    v, a, lo, hi = np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    base, rise = np.empty(m), np.empty(m)
    chosen = np.zeros(n)
    for s in range(n):
        if not used[s]:
            continue
        i0, i1 = start[s], start[s + 1]
        load0 = max(bus[s] * (1.0 + sign * lin[s]) + sign * fixed[s], 0.0)
        low = 0.95 * load0 / max(vmax[s], 1.0)
        high = max(min(1.15 * load0 / max(vmin[s], 1.0), imax[s]), low)
        lowest_v = load0 / max(vmin[s], 1.0)
        for _ in range(4):
            lowest_v = (load0 + sign * quad[s] * lowest_v**2) / max(vmin[s], 1.0)
        best, best_cost, price, last = 0.0, np.inf, 0.0, -1.0
        for zoom in range(zooms + 1):
            extra = i1 - i0 + 2 if zoom == 0 else 0
            left, right = low, high
            for j in range(points + extra):
                if j < points:
                    current = left + (right - left) * j / (points - 1)
                elif j == points:
                    current = top[s]
                elif j == points + 1:
                    # the most that the window allows for this power: near the limits little else may do
                    current = min(lowest_v * (1.0 - 1e-9), imax[s])
                else:
                    current = min(max(now[i0 + j - points - 2], left), right)
                    if current in (last, left, right):
                        continue
                    last = current
                if current <= 0.0:
                    continue
                least, most = _load(current, i0, i1, sign, emf, ohm, trim, wear, mu, c, now, avg, forced,
                                    v, a, base, rise, lo, hi)  # fmt: skip
                drop = sign * ron[s] * current**2
                losses = sign * (fixed[s] + (ron[s] + quad[s]) * current**2)
                wanted = bus[s] * (1.0 + sign * lin[s]) + losses
                slack = 1e-7 * max(abs(wanted), 1.0)
                most = min(most, vmax[s] * current + drop, pmax[s] * (1.0 + sign * lin[s]) + losses)
                if wanted > most + slack or wanted < max(least, vmin[s] * current + drop) - slack:
                    continue
                price = _string_price(wanted, price, i0, i1, v, a, mu, c, base, rise, lo, hi)
                spent = (ron[s] + quad[s]) * current**2
                for i in range(i0, i1):
                    q = min(max(base[i] + price * rise[i], lo[i]), hi[i])
                    spent += a[i] * q + 0.5 * mu[i] * (q - c[i]) ** 2
                if spent < best_cost:
                    best, best_cost = current, spent
            if best_cost == np.inf:
                break
            step = (right - left) / (points - 1)
            low, high = max(best - step, left), min(best + step, right)
        chosen[s] = best
    return chosen
