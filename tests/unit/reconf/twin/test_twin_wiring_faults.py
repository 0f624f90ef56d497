"""Faults that people build in show in registers and string voltage as on real hardware."""

from __future__ import annotations

import numpy as np
import pytest
from guard_site import guard_site

from reconf.devices.profile import load_profile
from reconf.devices.rm1 import Rm1Status
from reconf.errors import ConfigError
from reconf.twin.firmware import NodeBank
from reconf.twin.observe import QUIET
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth
from reconf.twin.wiring_faults import WIRING_FAULTS, FaultOrder, build_in

RM1, RC1 = load_profile("rm1"), load_profile("rc1")


def bank_with(*faults: str) -> NodeBank:
    site = guard_site(strings=1)
    rng = np.random.default_rng(5)
    truth = draw_truth(site, rng, soc_frac=0.6, sensor_scale=0.0)
    bank = NodeBank(site, Plant(site, truth), rng, noise=QUIET, rm1_profile=RM1, rc1_profile=RC1)
    for text in faults:
        build_in(bank, FaultOrder.parse(text))
    return bank


def insert(bank: NodeBank, *units: int) -> float:
    """Insert these units, feed everybody, and read STRING_VOLTAGE [V]."""
    for unit in range(1, 7):
        bank.write("g", unit, 0, [unit])
        bank.write("g", unit, 3, [int(unit in units)])
    bank.step(0.5, 0.5)
    return words(bank, 201, 3, 1)[0] * 0.1


def words(bank: NodeBank, unit: int, address: int, count: int, table: str = "input") -> list[int]:
    data = bank.read("g", unit, table, address, count)
    assert data is not None
    return np.frombuffer(data, dtype=">u2").tolist()


def test_a_reversed_module_reads_zero_and_takes_its_voltage_from_the_string():
    bank = bank_with("reversed@M0-2")
    two = insert(bank, 1, 2)
    one = insert(bank, 1)
    assert insert(bank, 1, 2, 3) == pytest.approx(one, abs=0.5)
    assert two == pytest.approx(2 * one, abs=0.5)
    block = words(bank, 3, 0, 32)
    assert block[4] == 0
    assert block[20:32] == [0] * 12
    assert block[3] & Rm1Status.CELL_SENSING_FAULT


def test_crossed_leads_show_in_the_string_voltage_only():
    bank = bank_with("crossed@M0-2")
    one = insert(bank, 1)
    assert insert(bank, 1, 2, 3) == pytest.approx(one, abs=0.5)
    assert insert(bank, 3) == 0.0
    assert words(bank, 3, 4, 1)[0] > 40_000


@pytest.mark.parametrize(("kind", "seen"), [("stuck-bypassed", True), ("stuck-bypassed-unseen", False)])
def test_a_stuck_switch_is_told_only_by_a_node_that_senses_it(kind, seen):
    bank = bank_with(f"{kind}@M0-2")
    one = insert(bank, 1)
    assert insert(bank, 1, 3) == pytest.approx(one, abs=0.2)
    status = words(bank, 3, 3, 1)[0]
    assert bool(status & Rm1Status.SWITCH_FAULT) is seen
    assert bool(status & Rm1Status.INSERTED) is not seen


def test_swapped_nodes_and_a_wrong_unit_id():
    bank = bank_with("swapped@M0-0,M0-5", "unit@M0-1=77")
    assert words(bank, 1, 100, 2, "holding") == words(bank_with(), 6, 100, 2, "holding")
    assert bank.read("g", 2, "input", 0, 3) is None
    assert bank.read("g", 77, "input", 0, 3) is not None


def test_a_dead_watchdog_never_bypasses():
    bank = bank_with("watchdog@M0-2")
    insert(bank, 2, 3)
    bank.step(6.0, 6.0)
    assert not words(bank, 2, 3, 1)[0] & Rm1Status.INSERTED
    assert words(bank, 3, 3, 1)[0] & Rm1Status.INSERTED


@pytest.mark.parametrize(
    "text", ["reversed", "dance@M0-1", "reversed@nobody", "unit@M0-1=4", "temperature@M0-1=x"]
)
def test_an_order_that_cannot_be_followed_says_why(text):
    with pytest.raises(ConfigError, match=r"fault|module|unit"):
        bank_with(text)


def test_every_fault_can_be_ordered():
    values = {
        "swapped": "M0-0,M0-1",
        "contactor": "S0",
        "converter-watchdog": "S0",
        "gradient": "S0",
        "string-leads": "S0",
    }
    for kind in WIRING_FAULTS:
        bank_with(f"{kind}@{values.get(kind, 'M0-3')}")
