"""The measured LFP plateau under many draws of sensor errors, all at once: one module for each.

Half of the draws carry the full errors of the protocol (0.5 % and 30 mA at 60 Ah) in all four combinations of
signs, the others anything between. Every draw is started right, 20 points too high and 15 too low; the one
started right is held against plain counting of the very same current.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.bench import estimation_logs as logs
from edge.bench.estimation_drive import with_soc_error
from reconf.arrays import FloatArray
from reconf.estimation.constants import Constants, constants_of
from reconf.estimation.filter import estimate, initial_state
from reconf.readings import SiteImage
from reconf.site import Chemistry, Site

STARTS: Final = ((0.0, 0.005), (0.2, 0.2), (-0.15, 0.2))
"""Error of the SOC at the start, and the deviation it is told with."""
FIRST_CYCLE_S: Final = 5.45 * 3600.0


@dataclass(frozen=True, slots=True)
class Errors:
    """(M,) errors of the current sensors, one start after the other of every draw."""

    gain_frac: FloatArray
    offset_a: FloatArray

    @classmethod
    def drawn(cls, draws: int, seed: int, rated_ah: float) -> Errors:
        """`draws` of them, each as often as there are starts."""
        k = np.arange(draws)
        signs = np.stack([1.0 - 2.0 * (k & 1), 1.0 - (k & 2)])
        between = np.random.default_rng(seed).uniform(-1.0, 1.0, (2, draws))
        size = np.repeat(np.where(k < draws // 2, signs, between), len(STARTS), axis=1)
        return cls(0.005 * size[0], 0.030 * rated_ah / 60.0 * size[1])


def _site(modules: int) -> Site:
    """Modules of the cell of the log, each a string of its own."""
    one = logs.one_module_site(Chemistry.LFP, "lfp_generic", 1, 1.2, 1.0, 0.02)
    string = one.strings[0]
    position = string.positions[0]
    strings = tuple(
        replace(
            string,
            name=f"S{i}",
            positions=(
                replace(
                    position,
                    label=f"{i}",
                    unit_id=i + 1,
                    module=replace(position.module, serial=f"LOG-{i}"),
                ),
            ),
        )
        for i in range(modules)
    )
    return replace(one, strings=strings)


def _constants(folder: Path, site: Site) -> Constants:
    """Those of `site` with the cell's own curves, as `logs.lfp_constants`."""
    one = logs.one_module_site(Chemistry.LFP, "lfp_generic", 1, 1.2, 1.0, 0.02)
    own = logs.lfp_constants(folder, one).bank
    m = site.topology.n_modules
    made = constants_of(site)
    bank = replace(
        made.bank,
        table=own.table,
        row=np.repeat(own.row, m),
        hysteresis_rate=np.repeat(own.hysteresis_rate, m),
    )
    return replace(made, bank=bank)


def _images(
    log: logs.CellLog, errors: Errors, rng: np.random.Generator, every: int
) -> Iterator[tuple[SiteImage, float, FloatArray]]:
    """Image, time step and counters (M,) of each `every`-th sample; the starts of a draw share its noise."""
    draws = errors.gain_frac.size // len(STARTS)
    last = 0
    for k in range(every, log.time_s.size, every):
        passed = float(log.time_s[k] - log.time_s[last])
        if passed <= 0.0:
            continue
        last = k
        noise = np.repeat(rng.standard_normal((draws, 4)), len(STARTS), axis=0)
        volts = log.voltage_v[k, 0] + 0.002 * noise[:, :2]
        offset_ah = errors.offset_a * log.time_s[k] / 3600.0
        counter = log.out_ah[k] * (1.0 + errors.gain_frac) + offset_ah
        image = logs.modules_image(
            k,
            log,
            cells_v=volts[:, :1],
            whole_v=volts[:, 1],
            current_a=log.current_a[k] * (1.0 + errors.gain_frac) + errors.offset_a,
            warm_degc=log.temperature_degc[k] + 0.5 * noise[:, 2:],
            counter_ah=counter,
        )
        yield image, passed, counter


def run(folder: Path, draws: int = 16, every: int = 20, seed: int = 7) -> dict[str, Any]:
    """Errors of all draws [% of SOC].

    Returns:
        `rmse_percent` and `counting_percent` of every draw started right, `worst_excess_percent` of the one
        over the other; `high_percent` and `low_percent`, the worst RMSE after the first cycle of those
        started wrong.
    """
    log = logs.lfp_flat_zone(folder)
    errors = Errors.drawn(draws, seed, log.capacity_ah)
    site = _site(errors.gain_frac.size)
    constants = _constants(folder, site)
    begin = float(log.reference_soc_frac[every])
    state = None
    first_ah: FloatArray = np.zeros(0)
    times, soc, counted = [], [], []
    for image, dt_s, counter in _images(log, errors, np.random.default_rng(seed), every):
        if state is None:
            state = initial_state(site, image, constants=constants)
            offset, std = np.tile(np.array(STARTS).T, draws)
            state = with_soc_error(state, (begin + offset)[:, None], std[:, None])
            first_ah = counter
        state, now = estimate(site, state, image, dt_s)
        reference = np.interp(image.time_s, log.time_s, log.reference_soc_frac)
        times.append(image.time_s)
        soc.append(now.soc_weakest_frac - reference)
        counted.append(begin - (counter - first_ah) / log.capacity_ah - reference)
    right, high, low = (np.array(soc)[:, k :: len(STARTS)] for k in range(len(STARTS)))
    after = np.array(times) > FIRST_CYCLE_S
    rmse, plain = _rms_percent(right), _rms_percent(np.array(counted)[:, :: len(STARTS)])
    return {
        "draws": draws,
        "every": every,
        "rmse_percent": rmse.round(3).tolist(),
        "counting_percent": plain.round(3).tolist(),
        "worst_excess_percent": round(float((rmse - plain).max()), 3),
        "high_percent": round(float(_rms_percent(high[after]).max()), 3),
        "low_percent": round(float(_rms_percent(low[after]).max()), 3),
    }


def _rms_percent(errors: FloatArray) -> FloatArray:
    """Of every column."""
    rms: FloatArray = 100.0 * np.sqrt(np.mean(errors**2, axis=0))
    return rms
