"""Thermal forecast of every module, and when to ask the cooling system.

Two lumped nodes, core and surface (Lin et al., J. Power Sources 257 (2014) 1,
doi 10.1016/j.jpowsour.2014.01.097)::

    C_c dT_c/dt = P - k_cs (T_c - T_s),      C_s dT_s/dt = k_cs (T_c - T_s) - k_sa (T_s - T_a)

For constant heat P the core after a time H is T_free(H) + g(H) P, so the heat that just reaches the limit is
(T_lim - T_free) / g. With one node of time constant tau this is the familiar

    P <= [T_lim - T_a - (T_0 - T_a) e^(-H/tau)] / [R_th (1 - e^(-H/tau))].

Asked again every tick, the limit falls smoothly and settles at (T_lim - T_a) / R_th: no bang-bang. The
forecast reaches twenty minutes ahead (a longer one derates earlier: half an hour costs 2.5 % instead of 1.8 %
of the energy of a hot hour); a module that is empty (or full) before makes no heat after, so its long
horizon ends there. It is also held at a short horizon, as a core warmer than its shell peaks early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.cells.bank import CellBank
from reconf.replacing import replace
from reconf.site import ThermalSpec, Topology

SHORT_S: Final = 300.0
LONG_S: Final = 1200.0
EMPTY_MARGIN: Final = 1.25
"""A module counts as making heat for this much longer than its charge lasts at the present current."""
HEAT_MEMORY_S: Final = 300.0
"""Time constant of the mean heat that the cooling system is asked for by."""
SMOOTH_S: Final = 120.0
"""Memory of what is added to the best estimate for its doubt: noise of a sensor moves no limit."""
SMOOTH_WITHIN_K: Final = 1.0
"""A doubt that grows further than this counts at once."""
AIR_FALLS_S: Final = 300.0
"""Cooler air counts as slowly as this: a gust does not last for the horizon. Warmer air counts now."""
RECENT_S: Final = 30.0
"""Time constant of the heat that decides whether derating would begin without cooling."""
CURRENT_S: Final = 60.0
"""Memory of the string current by which heat becomes a current: it jumps as modules are switched."""
COUNT_ON_S: Final = 120.0
"""A cooling system that failed is counted on again after so long without a failure."""
COOLING_ON_K: Final = 3.0
"""Cooling is asked for when the forecast without it comes this near to the operating limit ..."""
COOLING_OFF_K: Final = 6.0
"""... and let go when it stays this far away."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Core temperature at each horizon as free + gain * heat; (3, M): short, end of discharge, of charge."""

    free_degc: FloatArray
    gain_k_per_w: FloatArray

    def heat_limits_w(self, limit_degc: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(M,) largest constant heat, discharging and charging, that keeps the core below `limit_degc`.

        Held at the short horizon and at the direction's own; not below 0.
        """
        heat = np.maximum((limit_degc - self.free_degc) / self.gain_k_per_w, 0.0)
        return np.minimum(heat[0], heat[1]), np.minimum(heat[0], heat[2])

    def core_degc(self, heat_w: FloatArray) -> FloatArray:
        """(M,) highest forecast core temperature under constant `heat_w`."""
        core: FloatArray = (self.free_degc + self.gain_k_per_w * heat_w).max(axis=0)
        return core


def forecast(
    bank: CellBank,
    core_degc: FloatArray,
    surface_degc: FloatArray,
    surroundings_degc: FloatArray,
    conductance_w_per_k: FloatArray,
    horizon_s: FloatArray,
) -> Forecast:
    """Exact response of the two nodes.

    Args:
        bank: heat capacities and the conductance between core and surface.
        core_degc: (M,) now.
        surface_degc: (M,) now.
        surroundings_degc: (M,) what the surface looses its heat to.
        conductance_w_per_k: (M,) between surface and surroundings.
        horizon_s: (3, M) how far ahead.
    """
    cc, cs = bank.heat_capacity_core_j_per_k, bank.heat_capacity_surface_j_per_k
    inner, outer = bank.conductance_core_surface_w_per_k, conductance_w_per_k
    # d/dt [x_c, x_s] = [[-a, a], [b, -d]] x + [P / C_c, 0], x against the surroundings
    a, b, d = inner / cc, inner / cs, (inner + outer) / cs
    mean, half = -0.5 * (a + d), np.sqrt(0.25 * (a - d) ** 2 + a * b)
    fast, slow = mean - half, mean + half
    x_core, x_surface = core_degc - surroundings_degc, surface_degc - surroundings_degc
    full = 1.0 / inner + 1.0 / outer
    e_fast, e_slow = np.exp(fast * horizon_s), np.exp(slow * horizon_s)
    # Sylvester's formula for a 2x2 matrix: exp(A t) = p I + q A
    q = (e_slow - e_fast) / (slow - fast)
    p = e_slow - slow * q
    phi_cc, phi_cs = p - a * q, a * q
    # x(H) = phi x0 + (I - phi) x_inf, where x_inf = P [1/k_cs + 1/k_sa, 1/k_sa]
    return Forecast(
        free_degc=surroundings_degc + phi_cc * x_core + phi_cs * x_surface,
        gain_k_per_w=(1.0 - phi_cc) * full - phi_cs / outer,
    )


def horizons_s(
    remaining_ah: FloatArray, chargeable_ah: FloatArray, doubt_ah: FloatArray, current_a: FloatArray
) -> FloatArray:
    """(3, M) horizons: short, and as long as charge lasts at `current_a` (M,), at most `LONG_S`."""
    lasts = EMPTY_MARGIN * 3600.0 / np.maximum(current_a, 1e-6)
    return np.array(
        [
            np.full(current_a.shape, SHORT_S),
            np.clip((remaining_ah + 2.0 * doubt_ah) * lasts, SHORT_S, LONG_S),
            np.clip((chargeable_ah + 2.0 * doubt_ah) * lasts, SHORT_S, LONG_S),
        ]
    )


@dataclass(frozen=True, slots=True)
class ThermalState:
    """What the forecast remembers."""

    heat_w: FloatArray
    """(M,) mean heat of the last minutes."""
    cooling_asked: bool
    ran_s: float
    """Since the cooling system was last switched."""
    level_frac: float
    """Where its ramp stands."""
    recent_w: FloatArray
    """(M,) mean heat of the last half minute."""
    core_doubt_k: FloatArray
    """(M,) highest core over the best estimate, NaN before the first tick."""
    surface_k: FloatArray
    """(M,) surface over the best estimate of the core."""
    air_degc: float
    current_a: FloatArray
    """(M,) mean of the string current over `CURRENT_S`."""
    current_a2: FloatArray
    """(M,) mean of its square."""
    works_s: float = float("inf")
    """How long the cooling system has been without a failure."""

    @classmethod
    def start(cls, n_modules: int) -> ThermalState:
        """Cold and off."""
        nothing, unknown = np.zeros(n_modules), np.full(n_modules, np.nan)
        return cls(
            nothing,
            cooling_asked=False,
            ran_s=float("inf"),
            level_frac=0.0,
            recent_w=nothing,
            core_doubt_k=unknown,
            surface_k=unknown,
            air_degc=float("nan"),
            current_a=unknown,
            current_a2=unknown,
        )

    @property
    def heating_current_a(self) -> FloatArray:
        """(M,) steady current with as much heat per ampere as the one that flows: mean square over mean."""
        return self.current_a2 / np.maximum(self.current_a, 1e-6)


@dataclass(frozen=True, slots=True)
class Warmth:
    """Temperatures of this tick, (M,)."""

    core_degc: FloatArray
    """Highest the core may have."""
    surface_degc: FloatArray
    ambient_degc: FloatArray
    limit_degc: FloatArray
    heat_w: FloatArray
    """Made now."""
    horizon_s: FloatArray
    """(3, M) of `horizons_s`."""
    share_frac: FloatArray | None = None
    """Of the conductance without cooling system, as found where cooling was lost; inf, None: as modelled."""


def smoothed(
    state: ThermalState, warmth: Warmth, best_degc: FloatArray, dt_s: float, *, measured: bool = True
) -> tuple[ThermalState, Warmth]:
    """`warmth` without the noise of its sensors, which the forecast would multiply.

    What the observer follows (`best_degc`, (M,)) passes as it is; what is added to it for doubt, and the
    surface against it, are means over `SMOOTH_S`. Cooler air counts slowly, warmer air and a large new doubt
    at once; air that is not `measured` is never cooler than it was last.
    """
    share = 1.0 - np.exp(-dt_s / SMOOTH_S)

    def mean(before: FloatArray, now: FloatArray) -> FloatArray:
        after: FloatArray = np.where(np.isnan(before), now, before + share * (now - before))
        return after

    doubt = warmth.core_degc - best_degc
    kept = np.maximum(mean(state.core_doubt_k, doubt), doubt - SMOOTH_WITHIN_K)
    surface = mean(state.surface_k, warmth.surface_degc - best_degc)
    now = float(warmth.ambient_degc.max(initial=-np.inf))
    falls = 1.0 - np.exp(-dt_s / AIR_FALLS_S) if measured else 0.0
    air = now if np.isnan(state.air_degc) else max(now, state.air_degc + falls * (now - state.air_degc))
    core = best_degc + kept
    return (
        replace(state, core_doubt_k=kept, surface_k=surface, air_degc=air),
        replace(
            warmth,
            core_degc=core,
            surface_degc=np.minimum(best_degc + surface, core),
            ambient_degc=np.full(core.shape, air),
        ),
    )


def with_current(state: ThermalState, string_current_a: FloatArray, dt_s: float) -> ThermalState:
    """Follow the string current (M,), a magnitude."""
    share = 1.0 - np.exp(-dt_s / CURRENT_S)
    new = np.isnan(state.current_a)
    square = string_current_a**2
    return replace(
        state,
        current_a=np.where(
            new, string_current_a, state.current_a + share * (string_current_a - state.current_a)
        ),
        current_a2=np.where(new, square, state.current_a2 + share * (square - state.current_a2)),
    )


def counted_on(state: ThermalState, dt_s: float, *, failed: bool) -> tuple[ThermalState, bool]:
    """Whether the cooling system may be counted on.

    A failure that comes and goes moves no limit up and down.
    """
    works_s = 0.0 if failed else state.works_s + dt_s
    return replace(state, works_s=works_s), works_s >= COUNT_ON_S


def auxiliary_w(spec: ThermalSpec, state: ThermalState) -> float:
    """Power that the cooling system takes, as asked for or still running down [W]."""
    return spec.cooling_power_w * max(state.level_frac, 1.0 if state.cooling_asked else 0.0)


def conductance_w_per_k(bank: CellBank, spec: ThermalSpec, level_frac: float) -> FloatArray:
    """(M,) surface to surroundings; full cooling multiplies the resistance by the site's factor."""
    gain = 1.0 + level_frac * (1.0 / spec.cooling_resistance_factor_frac - 1.0)
    conductance: FloatArray = bank.conductance_surface_ambient_w_per_k * gain
    return conductance


def _outer_w_per_k(
    bank: CellBank, spec: ThermalSpec, level_frac: float, share_frac: FloatArray | None
) -> FloatArray:
    """(M,) as modelled, or as little as was found, whatever the cooling system is asked for."""
    modelled = conductance_w_per_k(bank, spec, level_frac)
    if share_frac is None:
        return modelled
    outer: FloatArray = np.minimum(share_frac * bank.conductance_surface_ambient_w_per_k, modelled)
    return outer


def look_ahead(
    bank: CellBank, topology: Topology, spec: ThermalSpec, state: ThermalState, warmth: Warmth, dt_s: float
) -> tuple[ThermalState, Forecast]:
    """Advance the thermal state by one tick and forecast with the cooling that can be asked for.

    The cooling system is asked first, and in the tick in which derating would begin without it; derating is
    what is left to do with it running.
    """
    share = 1.0 - np.exp(-dt_s / HEAT_MEMORY_S)
    heat = state.heat_w + share * (warmth.heat_w - state.heat_w)
    recent = state.recent_w + (1.0 - np.exp(-dt_s / RECENT_S)) * (warmth.heat_w - state.recent_w)
    asked, ran = state.cooling_asked, state.ran_s + dt_s
    if spec.cooling != "off":
        without = _with_neighbours(bank, topology, spec, warmth, heat, 0.0)
        room = float((warmth.limit_degc - without.core_degc(heat)).min())
        short = bool((recent > np.minimum(*without.heat_limits_w(warmth.limit_degc))).any())
        wanted = short or room < (COOLING_OFF_K if asked else COOLING_ON_K)
        if wanted != asked and (wanted or ran >= spec.cooling_min_run_s):
            asked, ran = wanted, 0.0
    level = _ramp(state.level_frac, 1.0 if asked else 0.0, dt_s, spec.cooling_ramp_s)
    after = replace(state, heat_w=heat, recent_w=recent, cooling_asked=asked, ran_s=ran, level_frac=level)
    # the ramp is short against the horizons, and who makes more heat than is borne without cooling gets it
    return after, _with_neighbours(bank, topology, spec, warmth, heat, 0.0 if spec.cooling == "off" else 1.0)


def _ramp(now: float, target: float, dt_s: float, ramp_s: float) -> float:
    """Move towards `target` at one full range per `ramp_s`."""
    reach = dt_s / max(ramp_s, 1e-6)
    return now + max(-reach, min(reach, target - now))


def _with_neighbours(
    bank: CellBank,
    topology: Topology,
    spec: ThermalSpec,
    warmth: Warmth,
    heat_w: FloatArray,
    level_frac: float,
) -> Forecast:
    """Forecast with the neighbouring positions' heat, if the site says that they touch.

    A neighbour counts as warm as it will be at the end of the horizon under its present heat.
    """
    outer = _outer_w_per_k(bank, spec, level_frac, warmth.share_frac)
    alone = forecast(
        bank, warmth.core_degc, warmth.surface_degc, warmth.ambient_degc, outer, warmth.horizon_s
    )
    share: FloatArray | float = spec.neighbour_conductance_frac
    if spec.neighbour_conductance_frac <= 0.0:
        return alone
    later = np.maximum(alone.core_degc(heat_w), warmth.core_degc)
    same = topology.string_of[1:] == topology.string_of[:-1]
    touching, warm = np.zeros(later.shape), np.zeros(later.shape)
    touching[1:] += same
    touching[:-1] += same
    warm[1:] += np.where(same, later[:-1], 0.0)
    warm[:-1] += np.where(same, later[1:], 0.0)
    # neighbours touch as they did, whatever moves the air
    share = share * bank.conductance_surface_ambient_w_per_k / outer
    weight = 1.0 + share * touching
    around = (warmth.ambient_degc + share * warm) / weight
    return forecast(bank, warmth.core_degc, warmth.surface_degc, around, outer * weight, warmth.horizon_s)


def average_current_a(
    heat_w: FloatArray, resistance_ohm: FloatArray, string_current_a: FloatArray
) -> FloatArray:
    """Duty-averaged current q that makes at most `heat_w`.

    An inserted module carries the whole string current I, so its mean heat is q I R: q = P / (R I) while
    I is above sqrt(P / R), and q = I = sqrt(P / R) where the module may stay inserted all the time.
    """
    steady = np.sqrt(heat_w / resistance_ohm)
    allowed: FloatArray = heat_w / (resistance_ohm * np.maximum(np.maximum(string_current_a, steady), 1e-6))
    return allowed
