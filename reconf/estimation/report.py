"""From the filter's state to the estimate that the rest of the house is told."""

from __future__ import annotations

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.cells.bank import BankPoint
from reconf.estimation.circuit import Warm
from reconf.estimation.constants import Constants, pick, total
from reconf.estimation.integrity_state import BOTH_TEMPERATURES, Pair, Untrue
from reconf.estimation.memory import FilterState, GroupState
from reconf.estimation.remaining import Reach
from reconf.estimation.state import Cooling, Estimate
from reconf.readings import Channel, Quality, SiteImage

OBSERVER_DOUBT_K = 2.5
"""Free-running observer against a true sensor, with the ambient measured, without heat."""
AMBIENT_DOUBT_K = 15.0
"""The same where the ambient is a number from the site file."""
AGREE_K = 1.0
"""Two true sensors of a module are seldom further apart: offsets of 0.3 K and noise."""
ALONE_DOUBT_K = 1.0
"""What a sensor is believed to be off by at most where no other confirms it."""
STALE_TICKS = 2.0
"""Readings that were missed once are still believed, however long the tick took."""
RISE_DOUBT_FRAC = 0.35
"""Share of the heating that an unknown thermal resistance (or a fan) may be wrong by."""


def report(
    constants: Constants,
    state: FilterState,
    warm: Warm,
    point: BankPoint,
    shift_v: FloatArray,
    voltage_v: FloatArray,
    ends: Reach,
    image: SiteImage,
    dt_s: float,
) -> Estimate:
    """The estimate.

    Args:
        constants: of the site.
        state: after this tick.
        warm: factors of temperature on the resistances.
        point: (M, C) cell models at the groups' SOC.
        shift_v: (M, C) what temperature, age and hysteresis add to the OCV.
        voltage_v: (M, C) cell voltages that were used, NaN where none was.
        ends: weakest and strongest group, remaining charge.
        image: for freshness.
        dt_s: since the last tick: a tick that came late makes no reading older than one that was missed.
    """
    held, inside, rho = state.groups, state.circuit, state.resistance
    capacity = np.maximum(ends.weakest_ah + ends.room_ah, 0.05 * constants.rated_ah)
    sums = within(constants, state, warm, point, shift_v, voltage_v)
    fast = sums[3]
    resistance = fast + sums[4]
    relative = np.sqrt(pick(constants, rho.var, ends.weakest)) / pick(constants, rho.scale, ends.weakest)
    low, high = temperature_bounds(constants, image, state)
    cut_std = 0.25 * np.abs(ends.cut_soc_frac) * pick(constants, held.capacity_ah, ends.weakest)
    return Estimate(
        time_s=image.time_s,
        soc_frac=ends.weakest_ah / capacity,
        soc_std_frac=_soc_std_of(constants, held, ends.weakest),
        soc_weakest_frac=_soc_of(constants, held, ends.weakest),
        soc_strongest_frac=_soc_of(constants, held, ends.strongest),
        capacity_ah=capacity,
        capacity_std_ah=np.sqrt(pick(constants, held.var_qq, ends.weakest)),
        remaining_ah=ends.remaining_ah,
        remaining_std_ah=np.hypot(np.sqrt(pick(constants, held.var_rr, ends.weakest)), cut_std),
        chargeable_ah=ends.chargeable_ah,
        ocv_v=sums[0],
        ocv_slope_v_per_ah=sums[1],
        polarisation_v=sums[2],
        r0_ohm=fast,
        resistance_ohm=resistance,
        resistance_std_ohm=resistance * np.hypot(relative, constants.tuning.polarisation_error_frac),
        temperature_degc=inside.core_degc,
        temperature_low_degc=low,
        temperature_high_degc=high,
        cell_voltage_min_v=sums[5],
        cell_voltage_max_v=sums[6],
        trusted=_trusted(state, image, dt_s),
        group_resistance_frac=_worst_group(constants, rho.scale),
        trend=state.trend,
        cooling=_cooling(state),
        findings=state.integrity.findings + state.anomaly.findings,
    )


def within(
    constants: Constants,
    state: FilterState,
    warm: Warm,
    point: BankPoint,
    shift_v: FloatArray,
    voltage_v: FloatArray,
) -> FloatArray:
    """What the groups of each module come to.

    Returns:
        (7, M): OCV [V], its slope [V/Ah], polarisation [V], R0 and R1 + R2 [ohm], each summed over the
        groups; lowest and highest voltage, measured or where none was read modelled [V].
    """
    held, inside, scale = state.groups, state.circuit, state.resistance.scale
    slow, current = inside.v1_v + inside.v2_v, state.charge.current_a
    if constants.engine == "compiled":
        from reconf.estimation import kernels_module

        put = np.ascontiguousarray
        found: FloatArray = kernels_module.within(
            put(point.ocv_v), put(point.slope_v), put(point.r0_ohm), put(point.r1_ohm), put(point.r2_ohm),
            put(point.hysteresis_v), put(shift_v), put(scale), put(voltage_v), constants.mask,
            put(held.capacity_ah), put(held.ocv_error_v), inside.hysteresis, warm.r0_factor, warm.rc_factor,
            slow, current,
        )  # fmt: skip
        return found
    hysteresis = inside.hysteresis[:, None] * point.hysteresis_v
    ocv = point.ocv_v + shift_v - hysteresis + held.ocv_error_v
    fast = scale * point.r0_ohm * warm.r0_factor[:, None]
    settled = scale * (point.r1_ohm + point.r2_ohm) * warm.rc_factor[:, None]
    polarisation = scale * slow[:, None] - hysteresis
    parts = (ocv, point.slope_v / held.capacity_ah, polarisation, fast, settled)
    modelled = ocv - polarisation - fast * current[:, None]
    shown = np.where(np.isfinite(voltage_v), voltage_v, modelled)
    lowest = np.where(constants.mask, shown, np.inf).min(axis=1)
    highest = np.where(constants.mask, shown, -np.inf).max(axis=1)
    return np.stack([*(total(constants, part) for part in parts), lowest, highest])


def _cooling(state: FilterState) -> Cooling:
    """What the zones tell, by module."""
    zones = state.integrity.zones
    return Cooling(
        lost=zones.lost[zones.of],
        share_frac=zones.told_share_frac(),
        warmer_k=zones.warmer_k[zones.of],
        allowed_k=zones.allowed_k[zones.of],
    )


def _worst_group(constants: Constants, scale: FloatArray) -> FloatArray:
    """(M,) largest resistance scale of a module's groups over their mean."""
    groups = constants.mask.sum(axis=1)
    largest = np.where(constants.mask, scale, -np.inf).max(axis=1)
    ratio: FloatArray = largest * groups / total(constants, scale)
    return ratio


def _soc_of(constants: Constants, held: GroupState, group: IntArray) -> FloatArray:
    """(M,) SOC of one group of each module."""
    soc: FloatArray = pick(constants, held.charge_ah, group) / pick(constants, held.capacity_ah, group)
    return soc


def _soc_std_of(constants: Constants, held: GroupState, group: IntArray) -> FloatArray:
    """(M,) its deviation, as `GroupState.soc_std_frac`."""
    z = _soc_of(constants, held, group)
    rr, rq, qq, q = (
        pick(constants, x, group) for x in (held.var_rr, held.var_rq, held.var_qq, held.capacity_ah)
    )
    std: FloatArray = np.sqrt(np.maximum(rr - 2.0 * z * rq + z * z * qq, 1e-12)) / q
    return std


def believed_temperatures(image: SiteImage, state: FilterState) -> tuple[FloatArray, BoolArray]:
    """(M, 2) temperatures and which of them are usable and judged true."""
    sensors = image.modules.temperature_degc
    watch = state.integrity
    untrue = np.stack([watch.is_untrue(Untrue.TEMPERATURE_1), watch.is_untrue(Untrue.TEMPERATURE_2)], axis=1)
    return sensors.value, sensors.usable & image.modules.answered[:, None] & ~untrue


def temperature_bounds(
    constants: Constants, image: SiteImage, state: FilterState
) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest temperature (M,) that true sensors, observers and their doubts allow.

    Both sensors bound it as long as they are believed, and so does what each would show by the other, from
    how they have differed: one lying sensor moves no limit the wrong way. The core lies as far from there as
    the observer has it from its own surface, since both of these follow a lie.

    A sensor whose fellow is missing, untrue or contradicts it stands alone, and is believed with its own
    doubt: what a lie takes away is the second opinion, and no limit is the wider for that. The free-running
    observer bounds it as far as it is sure itself, which limits what two lying sensors can do before they
    are found; after that it stands alone with all of its doubt.
    """
    value, usable = believed_temperatures(image, state)
    inside, free = state.circuit, state.integrity
    known = np.isfinite(image.inputs.ambient_degc)
    ambient = image.inputs.ambient_degc if known else constants.ambient_degc
    doubt_k = OBSERVER_DOUBT_K if known else AMBIENT_DOUBT_K
    if constants.engine == "compiled":
        from reconf.estimation import kernels_module

        nodes = (inside.core_degc, inside.surface_degc, free.core_degc, free.surface_degc)
        kelvin = (float(ambient), doubt_k, RISE_DOUBT_FRAC, AGREE_K, ALONE_DOUBT_K)
        low, high = kernels_module.temperature_bounds(
            np.ascontiguousarray(value), usable, *nodes, free.pair.low_k, free.pair.high_k, *kelvin
        )
        return _with_zone(state, usable, low, high, ambient, doubt_k)
    rise = np.maximum(free.core_degc - ambient, 0.0)
    doubt = doubt_k + RISE_DOUBT_FRAC * rise
    blind = ~usable.any(axis=1)
    free_low = np.minimum(free.core_degc, free.surface_degc)
    free_high = np.maximum(free.core_degc, free.surface_degc)
    coldest, warmest = (
        np.where(usable, value, np.inf).min(axis=1),
        np.where(usable, value, -np.inf).max(axis=1),
    )
    # where only one is usable the two are the same
    apart = np.where(blind, 0.0, np.clip(warmest - coldest - AGREE_K, 0.0, ALONE_DOUBT_K))
    alone = np.where(usable.sum(axis=1) == 1, ALONE_DOUBT_K, apart)
    below, above = _by_the_other(value, free.pair)
    paired = usable.all(axis=1)
    coldest = np.where(paired, np.minimum(coldest, below), coldest)
    warmest = np.where(paired, np.maximum(warmest, above), warmest)
    inward = inside.core_degc - inside.surface_degc
    low = np.minimum(inside.core_degc, coldest + np.minimum(inward, 0.0)) - alone
    high = np.maximum(inside.core_degc, warmest + np.maximum(inward, 0.0)) + alone
    low = np.where(blind, np.minimum(low, free_low - doubt), np.minimum(low, free_low + doubt))
    high = np.where(blind, np.maximum(high, free_high + doubt), np.maximum(high, free_high - doubt))
    return _with_zone(state, usable, low, high, ambient, doubt_k)


def _with_zone(
    state: FilterState,
    usable: BoolArray,
    low_degc: FloatArray,
    high_degc: FloatArray,
    ambient_degc: float,
    doubt_k: float,
) -> tuple[FloatArray, FloatArray]:
    """Both bounds (M,) with what the zones say.

    A module that nobody reads is as warm as its zone. Where cooling counts as lost the readings may yet be
    lies that agree: hot limits follow them, cold ones do not.
    """
    free, zones = state.integrity, state.integrity.zones
    doubt = doubt_k + RISE_DOUBT_FRAC * np.maximum(zones.core_degc - ambient_degc, 0.0)
    warm = np.maximum(zones.core_degc, zones.surface_degc)
    high = np.maximum(high_degc, np.where(usable.any(axis=1), warm - doubt, warm + doubt))
    if not zones.lost.any():
        return low_degc, high
    alone = np.minimum(free.core_degc, free.surface_degc)
    alone = alone - doubt_k - RISE_DOUBT_FRAC * np.maximum(free.core_degc - ambient_degc, 0.0)
    return np.where(zones.lost[zones.of], np.minimum(low_degc, alone), low_degc), high


def _by_the_other(value_degc: FloatArray, pair: Pair) -> tuple[FloatArray, FloatArray]:
    """(M,) lowest and highest that a sensor would show by the other and by how they have differed."""
    first, second = value_degc[:, 0], value_degc[:, 1]
    low = np.clip(pair.low_k, -ALONE_DOUBT_K, ALONE_DOUBT_K)
    high = np.clip(pair.high_k, -ALONE_DOUBT_K, ALONE_DOUBT_K)
    return np.minimum(second + low, first - high), np.maximum(second + high, first - low)


def _trusted(state: FilterState, image: SiteImage, dt_s: float) -> BoolArray:
    """Fresh voltages, a current (or its substitute) and a temperature that are judged true."""
    readings, watch = image.modules, state.integrity
    stale_s = max(state.constants.tuning.stale_after_s, STALE_TICKS * dt_s)
    fresh = state.started & (readings.age_s <= stale_s)
    both_warm = (watch.untrue & BOTH_TEMPERATURES) == BOTH_TEMPERATURES
    trusted: BoolArray = (
        fresh
        & (state.unheard_s <= stale_s)
        & (_held(readings.current_a) | watch.is_untrue(Untrue.CURRENT))
        & _held(readings.temperature_degc).any(axis=1)
        & ~both_warm
        & ~watch.is_untrue(Untrue.CELL_VOLTAGES)
    )
    return trusted


def _held(channel: Channel) -> BoolArray:
    """Where a number is fresh or the last good one: a single missed answer makes no sensor untrue."""
    held: BoolArray = channel.quality <= np.uint8(Quality.STALE)
    return held
