"""What protection reads out of an image: extremes over cells and sensors, only where they can be believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.protection.bounds import Constants
from reconf.readings import Channel, Quality, SiteImage


@dataclass(frozen=True, slots=True)
class Observed:
    """Measured values of one tick; NaN where nothing usable was measured. (M,) unless noted."""

    cell_min_v: FloatArray
    """Lowest cell group that reads a voltage at all."""
    cell_max_v: FloatArray
    cell_zero: BoolArray
    """Some cell group reads 0 V."""
    cell_v: FloatArray
    """(M, C)"""
    temperature_min_degc: FloatArray
    temperature_max_degc: FloatArray
    temperature_degc: FloatArray
    """(M, 2)"""
    current_a: FloatArray
    fresh: BoolArray
    """A whole block came this tick."""
    string_voltage_v: FloatArray
    """(S,)"""
    string_current_a: FloatArray
    """(S,)"""
    link_voltage_v: FloatArray
    """(S,)"""
    heatsink_degc: FloatArray
    """(S,)"""
    bus_voltage_v: FloatArray
    """(S,)"""


def believed(channel: Channel) -> FloatArray:
    """Values that were measured or substituted, or are last good ones; NaN for the rest."""
    values: FloatArray = np.where(channel.quality <= np.uint8(Quality.STALE), channel.value, np.nan)
    return values


def observe(constants: Constants, image: SiteImage, reversed_v: float) -> Observed:
    """Read what protection needs out of `image`."""
    modules, strings = image.modules, image.strings
    cells = believed(modules.cell_voltage_v)
    mask = constants.bank.mask[:, : cells.shape[1]]
    alive = mask & (cells > reversed_v)
    known = mask & ~np.isnan(cells)
    degc = believed(modules.temperature_degc)
    warm = ~np.isnan(degc)
    any_warm = warm.any(axis=1)
    any_alive = alive.any(axis=1)
    return Observed(
        cell_min_v=np.where(any_alive, np.where(alive, cells, np.inf).min(axis=1), np.nan),
        cell_max_v=np.where(any_alive, np.where(alive, cells, -np.inf).max(axis=1), np.nan),
        cell_zero=np.logical_or.reduce(known & ~alive, axis=1),
        cell_v=cells,
        temperature_min_degc=np.where(any_warm, np.where(warm, degc, np.inf).min(axis=1), np.nan),
        temperature_max_degc=np.where(any_warm, np.where(warm, degc, -np.inf).max(axis=1), np.nan),
        temperature_degc=degc,
        current_a=believed(modules.current_a),
        fresh=modules.answered,
        string_voltage_v=believed(strings.voltage_v),
        string_current_a=believed(strings.current_a),
        link_voltage_v=believed(strings.link_voltage_v),
        heatsink_degc=believed(strings.heatsink_temperature_degc),
        bus_voltage_v=believed(strings.bus_voltage_v),
    )
