"""A node's own trips against the limits of its chemistry and of the site."""

from dataclasses import replace

import numpy as np
import pytest

from edge.modbus.identity import ModuleIdentity
from reconf.commissioning.backstop import QUANTITIES, trip_remarks
from reconf.devices import rm1
from reconf.devices.profile import load_profile
from reconf.protection.limits import default_limits
from reconf.site import Chemistry
from reconf.twin.firmware_rm1 import TRIPS


def told(chemistry: Chemistry, *values: float, limits=None) -> dict[str, str]:
    """What is remarked, by register."""
    limits = limits or default_limits(chemistry)
    return {
        r.register: r.found
        for r in trip_remarks(chemistry, limits, dict(zip(QUANTITIES, values, strict=True)))
    }


def test_the_registers_are_those_of_the_profile():
    addresses = [load_profile("rm1").register("holding", name).address for name in QUANTITIES]
    assert addresses == [113, 114, 115]


@pytest.mark.parametrize("chemistry", list(Chemistry))
def test_trips_of_the_reference_hardware_fit_their_chemistry(chemistry):
    assert told(chemistry, *TRIPS[chemistry]) == {}


def test_trips_of_another_chemistry_are_told_either_way():
    nmc, lfp = TRIPS[Chemistry.NMC], TRIPS[Chemistry.LFP]
    on_lfp, on_nmc = told(Chemistry.LFP, *nmc), told(Chemistry.NMC, *lfp)
    assert "far beyond" in on_lfp["TRIP_CELL_MAX"]
    assert "inside the safety limit" in on_lfp["TRIP_CELL_MIN"]
    assert "inside the operating limit of 4.2 V" in on_nmc["TRIP_CELL_MAX"]
    assert "far beyond the safety limit of 2.7 V" in on_nmc["TRIP_CELL_MIN"]


@pytest.mark.parametrize(
    ("degc", "words"),
    [
        (45.0, "inside the operating"),
        (48.5, "inside the safety"),
        (50.0, "inside the safety"),
        (81.0, "far beyond"),
    ],
)
def test_each_end_of_the_room_for_a_trip(degc, words):
    assert words in told(Chemistry.NMC, 4.35, 2.2, degc)["TRIP_TEMPERATURE_MAX"]


def test_a_site_with_tighter_limits_is_not_told_that_its_nodes_trip_late():
    limits = dict(default_limits(Chemistry.NMC))
    key = ("cell_voltage_v", "max")
    limits[key] = replace(limits[key], operating=4.0, recommended=4.05, safety=4.1)
    assert told(Chemistry.NMC, *TRIPS[Chemistry.NMC], limits=limits) == {}
    assert told(Chemistry.NMC, 4.09, 2.2, 70.0, limits=limits).keys() == {"TRIP_CELL_MAX"}


def test_what_a_node_does_not_tell_is_no_remark():
    nan = float("nan")
    assert told(Chemistry.NMC, nan, nan, nan) == {}
    assert trip_remarks(Chemistry.NMC, default_limits(Chemistry.NMC), {}) == ()


def test_a_threshold_that_is_not_available_is_none_of_the_node_and_the_sign_of_a_temperature_counts():
    words = np.zeros(rm1.IDENTITY.count, dtype=">u2")
    at = rm1.IDENTITY.address
    words[113 - at], words[114 - at], words[115 - at] = 4350, 0xFFFF, 0x10000 - 100
    head = np.array([0x524D, 1, 12], dtype=">u2").tobytes()
    who = ModuleIdentity.decode(load_profile("rm1"), head, words.tobytes())
    assert who.trips == {"TRIP_CELL_MAX": pytest.approx(4.35), "TRIP_TEMPERATURE_MAX": pytest.approx(-10.0)}
