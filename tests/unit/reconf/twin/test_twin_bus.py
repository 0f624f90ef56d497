"""The bus while an RC1 holds it: time constant, dip, energy, limits."""

from __future__ import annotations

import numpy as np
import pytest

from reconf.twin.bus import BUS_CAPACITANCE_F, BUS_TIME_S, BusMaster, hold_bus


def follow(power_w: float, drawn_w: float, seconds: float, most_w: float = 1e6) -> list[float]:
    """Bus voltage every 5 ms from 800 V."""
    volts, path = 800.0, []
    for _ in range(round(seconds / 0.005)):
        step = hold_bus(volts, power_w, 800.0, drawn_w, -most_w, most_w, 0.005)
        volts, power_w = step.voltage_end_v, step.power_end_w
        path.append(volts)
    return path


def test_load_step_dips_the_bus_as_the_time_constant_says_and_returns() -> None:
    path = follow(10_000.0, 20_000.0, 0.5)
    expected = 0.74 * 10_000.0 * BUS_TIME_S / (BUS_CAPACITANCE_F * 800.0)
    assert 800.0 - min(path) == pytest.approx(expected, rel=0.05)
    assert path[-1] == pytest.approx(800.0, abs=0.05)
    # critically damped: it does not ring
    assert max(path) < 800.1


def test_energy_of_the_capacitor_is_what_the_powers_left_over() -> None:
    step = hold_bus(790.0, 5_000.0, 800.0, 8_000.0, -1e5, 1e5, 0.03)
    stored = 0.5 * BUS_CAPACITANCE_F * (step.voltage_end_v**2 - 790.0**2)
    assert stored == pytest.approx((step.power_mean_w - 8_000.0) * 0.03, rel=1e-9)


def test_long_steps_end_where_short_ones_do() -> None:
    whole = hold_bus(780.0, 1_000.0, 800.0, 9_000.0, -1e5, 1e5, 0.4)
    volts, power = 780.0, 1_000.0
    for _ in range(40):
        part = hold_bus(volts, power, 800.0, 9_000.0, -1e5, 1e5, 0.01)
        volts, power = part.voltage_end_v, part.power_end_w
    np.testing.assert_allclose([whole.voltage_end_v, whole.power_end_w], [volts, power], rtol=1e-9)


def test_what_a_master_cannot_give_the_bus_loses() -> None:
    assert follow(5_000.0, 20_000.0, 0.5, most_w=12_000.0)[-1] < 600.0


def test_slot_change_moves_power_at_once_and_only_after_the_step_is_taken() -> None:
    master = BusMaster()
    for _ in range(40):
        master.mean_power_w(800.0, 400.0, 800.0, 10_000.0, (-1e5, 1e5), 0.01)
        master.commit()
    assert master.power_w == pytest.approx(10_000.0, rel=1e-6)
    one = master.mean_power_w(800.0, 440.0, 800.0, 10_000.0, (-1e5, 1e5), 0.001)
    again = master.mean_power_w(800.0, 440.0, 800.0, 10_000.0, (-1e5, 1e5), 0.001)
    assert one == again
    assert one == pytest.approx(11_000.0, rel=0.01)
