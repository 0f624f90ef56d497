"""Wire time of serial lines, and whether the shipped RTU site fits its tick."""

from __future__ import annotations

import pytest

from edge.modbus import wiretime
from edge.modbus.southbound import Southbound
from reconf.config import load_site
from reconf.shipped import find_site_file
from reconf.site import GatewaySpec


def line(baudrate: int, parity: str = "N", stop_bits: int = 1) -> GatewaySpec:
    return GatewaySpec("g", "rtu", baudrate=baudrate, parity=parity, stop_bits=stop_bits)


@pytest.mark.parametrize(("baudrate", "measured_s"), [(9600, 0.222), (115200, 0.0185)])
def test_hundred_registers_as_measured_on_a_real_line(baudrate: int, measured_s: float) -> None:
    # characters only: 8 bytes there, 205 back, 10 bits each
    gaps = 2 * wiretime.frame_gap_s(baudrate, 10) + wiretime.TURNAROUND_S
    assert wiretime.read_s(line(baudrate), 100) - gaps == pytest.approx(measured_s, rel=0.01)


def test_parity_and_second_stop_bit_cost_a_bit_each() -> None:
    assert wiretime.bits_per_character("N", 1) == 10
    assert wiretime.bits_per_character("E", 1) == 11
    assert wiretime.bits_per_character("N", 2) == 11


def test_gap_is_fixed_above_19200_baud() -> None:
    assert wiretime.frame_gap_s(115200, 10) == 0.00175
    assert wiretime.frame_gap_s(9600, 10) == pytest.approx(0.00365, abs=1e-5)


def test_write_of_one_register_is_shorter_than_of_two() -> None:
    assert wiretime.write_s(line(9600), 1) < wiretime.write_s(line(9600), 2)


def test_shipped_rtu_site_fits_its_tick() -> None:
    site = load_site(find_site_file("leaf_yard"))
    south = Southbound(site)
    share = south.tick_wire_s / site.timing.tick_s
    print(f"busiest bus: {1e3 * south.tick_wire_s:.0f} ms of wire time, {share:.1%} of the tick")
    assert 0.0 < share < 0.5
