"""Capacity from two points: by hand, with its doubt, and the reasons for none."""

import pytest

from reconf.captest.point import Capacity, Point, capacity_between


def point(time_s, soc, counter_ah, uptime_s=1000, std=0.004):
    return Point(time_s, tuple(soc), (std,) * len(soc), counter_ah, uptime_s, 25.0)


def test_by_hand_with_equal_groups():
    got = capacity_between(
        "M1", point(0, [0.95, 0.95], 1.0), point(7200, [0.15, 0.15], 41.0, 8200), bias_a=0.0, gain_frac=0.0
    )
    assert isinstance(got, Capacity)
    assert got.capacity_ah == pytest.approx(50.0)
    assert got.charge_ah == pytest.approx(40.0)
    assert got.hours == pytest.approx(2.0)
    # two points of 0.4 % over 80 % of SOC, a part of it common, and the gain of the sensor
    assert 0.15 < got.std_ah < 0.35


def test_groups_out_of_balance_give_less_than_any_of_them():
    # 50 Ah groups, one 4 % lower: full when the upper is, empty when the lower is
    got = capacity_between(
        "M1", point(0, [0.95, 0.91], 0.0), point(1, [0.15, 0.11], 40.0, 2000), bias_a=0.0, gain_frac=0.0
    )
    assert got.capacity_ah == pytest.approx(48.0)


def test_offset_and_gain_of_the_sensor_are_taken_out():
    got = capacity_between(
        "M1", point(0, [0.9], 0.0), point(3600, [0.1], 40.5, 5000), bias_a=0.5, gain_frac=0.01
    )
    assert got.capacity_ah == pytest.approx(40.0 / 1.01 / 0.8)


def test_a_charge_counts_as_well():
    got = capacity_between(
        "M1", point(0, [0.1], 0.0), point(1, [0.9], -40.0, 2000), bias_a=0.0, gain_frac=0.0
    )
    assert got.capacity_ah == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("second", "word"),
    [
        (point(1, [0.1], 40.0, uptime_s=5), "restarted"),
        (point(1, [0.88], 1.0, 2000), "only 2%"),
        (point(1, [0.1], -40.0, 2000), "SOC"),
    ],
)
def test_no_capacity_without_a_reason(second, word):
    got = capacity_between("M1", point(0, [0.9], 0.0), second, bias_a=0.0, gain_frac=0.0)
    assert isinstance(got, str)
    assert word in got
