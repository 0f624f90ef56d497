"""RM1 and RC1 behave as their register tables say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reconf.devices.profile import load_profile
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.protection.limits import default_limits
from reconf.site import (
    BusSpec,
    Chemistry,
    ConverterSpec,
    GatewaySpec,
    ModuleSpec,
    PositionSpec,
    Site,
    StringSpec,
)
from reconf.twin.firmware import NodeBank
from reconf.twin.firmware_registers import RefusedError
from reconf.twin.observe import QUIET
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

G = "line"


# read once: parsing the register tables takes longer than most of these tests
RM1, RC1 = load_profile("rm1"), load_profile("rc1")


def make(n_modules: int = 4, n_cells: int = 4) -> NodeBank:
    module = ModuleSpec("SN", Chemistry.NMC, "nmc_generic", n_cells, 1, 60.0, 0.8, 0.02, 1.2, 5.0, 0.92)
    positions = tuple(
        PositionSpec(f"p{k}", G, k + 1, replace(module, serial=f"SN{k}"), 0.0005) for k in range(n_modules)
    )
    low_v, high_v = 3.0 * n_cells * (n_modules - 1), 4.3 * n_cells * n_modules
    converter = ConverterSpec(G, 201, 4000.0, 60.0, low_v, high_v, 5.0, 0.01, 0.02)
    site = Site(
        name="s",
        gateways=(GatewaySpec(G, "tcp"),),
        strings=(StringSpec("A", converter, positions),),
        bus=BusSpec("pcs", 400.0, 360.0, 440.0),
        limits={c: default_limits(c) for c in Chemistry},
    )
    rng = np.random.default_rng(3)
    plant = Plant(site, draw_truth(site, rng, soc_frac=0.6, sensor_scale=0.0))
    return NodeBank(site, plant, rng, noise=QUIET, rm1_profile=RM1, rc1_profile=RC1)


def words(bank: NodeBank, unit: int, address: int = 0, count: int = 17, table: str = "input") -> list[int]:
    data = bank.read(G, unit, table, address, count)
    assert data is not None
    return np.frombuffer(data, dtype=">u2").tolist()


def code(bank: NodeBank, action: str, *args: object) -> int:
    with pytest.raises(RefusedError) as caught:
        getattr(bank, action)(G, *args)
    return int(caught.value.code)


def status(bank: NodeBank, unit: int) -> int:
    return words(bank, unit)[2 if unit > 200 else 3]


def feed(bank: NodeBank) -> None:
    for unit in (*range(1, bank.site.topology.n_modules + 1), 201):
        bank.write(G, unit, 0, [(words(bank, unit, 0, 1, "holding")[0] + 1) & 0xFFFF])


def run(bank: NodeBank, seconds: float, step: float = 0.1, *, fed: bool = True) -> None:
    for _ in range(round(seconds / step)):
        if fed:
            feed(bank)
        bank.step(step, step)


def join(bank: NodeBank, power_w: int = 0) -> None:
    for unit in range(1, bank.site.topology.n_modules + 1):
        bank.write(G, unit, 3, [1])
    bank.write(G, 201, 7, [1])
    run(bank, 1.5)
    if power_w:
        bank.write(G, 201, 2, [1, *np.array([power_w], dtype=">i4").view(">u2").tolist()])
        run(bank, 1.0)


class TestRegisterAccess:
    def test_sixty_registers_are_answered_and_sixty_one_are_not(self) -> None:
        bank = make()
        assert len(words(bank, 1, 0, 60)) == 60
        assert code(bank, "read", 1, "input", 0, 61) == 3
        assert code(bank, "read", 1, "input", 0, 0) == 3

    def test_holes_read_ffff_and_a_block_of_holes_is_refused(self) -> None:
        bank = make()
        assert words(bank, 1, 17, 4)[1:3] == [0xFFFF, 0xFFFF]
        assert words(bank, 1, 20, 15)[4:] == [0xFFFF] * 11, "the module has four cells"
        assert code(bank, "read", 1, "input", 18, 2) == 2
        assert code(bank, "read", 1, "input", 24, 5) == 2
        assert code(bank, "read", 1, "holding", 300, 2) == 2

    def test_writes_to_read_only_or_absent_registers_are_refused(self) -> None:
        bank = make()
        assert code(bank, "write", 1, 100, [1]) == 2
        assert code(bank, "write", 1, 8, [1]) == 2
        assert code(bank, "write", 1, 7, [1, 1]) == 2, "one register of the request does not exist"
        assert words(bank, 1, 7, 1, "holding") == [0]

    @pytest.mark.parametrize(
        ("unit", "address", "values"),
        [
            (1, 1, [9]), (1, 1, [601]), (1, 2, [2]), (1, 3, [2]), (1, 4, [10001]), (1, 5, [501]),
            (1, 5, [0x8000]), (1, 6, [1]), (1, 7, [601]), (201, 2, [3]), (201, 7, [2]), (201, 8, [5]),
        ],
    )  # fmt: skip
    def test_out_of_range_values_are_refused(self, unit: int, address: int, values: list[int]) -> None:
        bank = make()
        before = words(bank, unit, 0, 9, "holding")
        assert code(bank, "write", unit, address, values) == 3
        assert words(bank, unit, 0, 9, "holding") == before

    def test_one_bad_value_spoils_the_whole_request(self) -> None:
        bank = make()
        assert code(bank, "write", 1, 2, [1, 1, 20000, 0]) == 3
        assert words(bank, 1, 2, 4, "holding") == [0, 0, 0, 0]

    def test_half_of_a_32_bit_register_is_refused(self) -> None:
        bank = make()
        assert code(bank, "write", 201, 3, [1]) == 3
        assert code(bank, "write", 201, 4, [1]) == 3
        assert code(bank, "write", 201, 2, [1, 0]) == 3
        bank.write(G, 201, 3, [0xFFFF, 0xFF9C])
        assert bank.rc1.bank.number(3)[0] == -100

    def test_clear_reads_zero_and_takes_zero(self) -> None:
        bank = make()
        bank.write(G, 1, 0, [1, 60, 0, 0, 0, 0, 0])
        bank.write(G, 1, 6, [0xC1EA])
        assert words(bank, 1, 6, 1, "holding") == [0]

    def test_nobody_answers_to_an_unknown_unit(self) -> None:
        bank = make()
        assert bank.read(G, 77, "input", 0, 3) is None
        assert not bank.write(G, 77, 0, [1])


class TestWatchdog:
    def test_runs_from_power_up_in_wall_time(self) -> None:
        bank = make()
        bank.step(4.9, 100.0)
        assert not status(bank, 1) & Rm1Status.WATCHDOG_EXPIRED
        bank.step(0.2, 0.1)
        assert status(bank, 1) & Rm1Status.WATCHDOG_EXPIRED
        assert status(bank, 201) & Rc1Status.WATCHDOG_EXPIRED

    def test_only_a_changed_heartbeat_counts(self) -> None:
        bank = make()
        for _ in range(60):
            bank.write(G, 1, 0, [7])
            bank.step(0.1, 0.1)
        assert status(bank, 1) & Rm1Status.WATCHDOG_EXPIRED

    def test_expiry_erases_and_commands_wait_for_heartbeat_and_clear(self) -> None:
        bank = make()
        join(bank)
        assert status(bank, 1) & Rm1Status.INSERTED
        assert status(bank, 201) & Rc1Status.CONTACTOR_CLOSED
        run(bank, 5.2, fed=False)
        assert words(bank, 1, 2, 4, "holding") == [0, 0, 0, 0]
        assert words(bank, 201, 2, 3, "holding") == [0, 0, 0]
        assert words(bank, 201, 7, 1, "holding") == [0]
        assert not status(bank, 201) & Rc1Status.CONTACTOR_CLOSED
        bank.write(G, 1, 3, [1])
        bank.write(G, 1, 6, [0xC1EA])  # without a fresh heartbeat: no effect
        run(bank, 0.2, fed=False)
        assert status(bank, 1) & Rm1Status.WATCHDOG_EXPIRED
        feed(bank)
        run(bank, 0.2, fed=False)
        assert not status(bank, 1) & Rm1Status.INSERTED, "stored without effect"
        bank.write(G, 1, 6, [0xC1EA])
        run(bank, 0.2, fed=False)
        assert status(bank, 1) & Rm1Status.INSERTED, (
            "what stands in the registers acts the moment CLEAR comes"
        )

    def test_power_up_values(self) -> None:
        bank = make()
        assert words(bank, 1, 0, 2, "holding") == [0, 50]
        assert words(bank, 201, 6, 1, "holding") == [600], "the current limit begins at the rating"


class TestModule:
    def test_trip_bypasses_latches_and_the_command_counts_again_after_clear(self) -> None:
        bank = make()
        join(bank)
        bank.plant.cells.soc_frac[0, 2] = -0.05
        bank.plant.cells.soc_frac[0, 2] = -0.08
        run(bank, 0.5)
        assert status(bank, 1) & Rm1Status.UNDER_VOLTAGE_TRIP
        assert not status(bank, 1) & Rm1Status.INSERTED
        bank.write(G, 1, 6, [0xC1EA])
        run(bank, 0.2)
        assert status(bank, 1) & Rm1Status.UNDER_VOLTAGE_TRIP, "its cause is still there"
        bank.plant.cells.soc_frac[0, 2] = 0.6
        run(bank, 0.2)
        assert status(bank, 1) & Rm1Status.UNDER_VOLTAGE_TRIP, "latched"
        bank.write(G, 1, 6, [0xC1EA])
        run(bank, 0.2)
        assert not status(bank, 1) & Rm1Status.UNDER_VOLTAGE_TRIP
        assert status(bank, 1) & Rm1Status.INSERTED

    def test_over_temperature_trips(self) -> None:
        bank = make()
        bank.plant.core_degc[1] = 80.0
        run(bank, 0.2)
        assert status(bank, 2) & Rm1Status.OVER_TEMPERATURE_TRIP
        assert not status(bank, 1) & Rm1Status.OVER_TEMPERATURE_TRIP

    def test_duty_mode_runs_by_itself_and_echoes(self) -> None:
        bank = make()
        bank.write(G, 1, 2, [1, 0, 2500, 0])
        run(bank, 0.3)
        row = words(bank, 1, 0, 18)
        assert row[3] & Rm1Status.INSERTED
        assert row[17] == 2500
        bank.write(G, 1, 4, [0])
        run(bank, 0.3)
        assert not status(bank, 1) & Rm1Status.INSERTED

    def test_stuck_switch_shows_as_switch_fault(self) -> None:
        bank = make()
        join(bank)
        bank.rm1.faults.stuck[0] = 1
        bank.write(G, 1, 3, [0])
        run(bank, 0.2)
        assert status(bank, 1) & Rm1Status.SWITCH_FAULT
        assert status(bank, 1) & Rm1Status.INSERTED

    def test_sample_counter_moves_at_least_every_half_second_and_values_belong_to_it(self) -> None:
        bank = make()
        join(bank, 800)
        seen = {}
        for _ in range(20):
            run(bank, 0.1)
            row = words(bank, 1)
            seen.setdefault(row[16], row[4])
            assert seen[row[16]] == row[4], "one measurement set, one value"
        assert len(seen) >= 4

    def test_insert_count_and_charge_counter(self) -> None:
        bank = make()
        before = words(bank, 1)[15]
        join(bank, 1500)
        run(bank, 60.0, step=1.0)
        row = words(bank, 1)
        assert row[15] == (before + 1) & 0xFFFF
        charge = (row[12] << 16 | row[13]) * 0.001
        assert charge == pytest.approx(bank.plant.charge_out_ah[0], abs=0.001)
        assert charge > 0.2


class TestConverter:
    def test_precharge_takes_a_second_and_the_link_follows(self) -> None:
        bank = make()
        for unit in range(1, 5):
            bank.write(G, unit, 3, [1])
        run(bank, 0.4)
        assert words(bank, 201)[16] == 0
        string_v = words(bank, 201)[3]
        assert string_v > 500, "the string's side shows with the contactor open"
        bank.write(G, 201, 7, [1])
        run(bank, 0.5)
        assert status(bank, 201) & Rc1Status.PRECHARGING
        assert not status(bank, 201) & Rc1Status.CONTACTOR_CLOSED
        run(bank, 0.8)
        assert status(bank, 201) & Rc1Status.CONTACTOR_CLOSED
        assert not status(bank, 201) & Rc1Status.PRECHARGING
        assert words(bank, 201)[16] == words(bank, 201)[3]

    def test_precharge_without_voltage_fails_after_five_seconds_and_stays_failed(self) -> None:
        bank = make()
        bank.write(G, 201, 7, [1])
        run(bank, 4.5)
        assert status(bank, 201) & Rc1Status.PRECHARGING
        run(bank, 1.0)
        assert not status(bank, 201) & (Rc1Status.PRECHARGING | Rc1Status.CONTACTOR_CLOSED)
        for unit in range(1, 5):
            bank.write(G, unit, 3, [1])
        run(bank, 3.0)
        assert not status(bank, 201) & Rc1Status.CONTACTOR_CLOSED, "never closes by itself later"
        bank.write(G, 201, 7, [0])
        run(bank, 0.2)
        bank.write(G, 201, 7, [1])
        run(bank, 1.5)
        assert status(bank, 201) & Rc1Status.CONTACTOR_CLOSED

    def test_delivers_power_at_the_bus_and_enforces_the_current_limit(self) -> None:
        bank = make()
        join(bank, 1000)
        assert (words(bank, 201)[14] << 16 | words(bank, 201)[15]) == 1000
        bank.write(G, 201, 6, [100])
        run(bank, 1.0)
        row = words(bank, 201)
        assert row[4] <= 100
        assert row[2] & Rc1Status.LIMITING

    def test_outside_the_window_it_gives_nothing(self) -> None:
        bank = make()
        join(bank, 1000)
        for unit in (1, 2, 3):
            bank.write(G, unit, 3, [0])
        run(bank, 1.0)
        row = words(bank, 201)
        assert row[2] & Rc1Status.OUTSIDE_WINDOW
        assert row[14:16] == [0, 0]

    def test_all_bypassed_behind_a_closed_contactor_is_counted_as_a_short(self) -> None:
        bank = make()
        join(bank)
        assert bank.link_shorts == 0
        for unit in range(1, 5):
            bank.write(G, unit, 3, [0])
        run(bank, 0.1)
        assert bank.link_shorts > 0

    def test_emergency_stop_opens_and_erases_and_nothing_closes_by_itself(self) -> None:
        bank = make()
        join(bank, 1000)
        bank.rc1.emergency_stop[0] = True
        run(bank, 0.2)
        assert not status(bank, 201) & Rc1Status.CONTACTOR_CLOSED
        assert words(bank, 201, 2, 3, "holding") == [0, 0, 0]
        bank.rc1.emergency_stop[0] = False
        run(bank, 3.0)
        assert not status(bank, 201) & (Rc1Status.CONTACTOR_CLOSED | Rc1Status.EMERGENCY_STOP)

    def test_hardware_fault_latches_until_cleared_after_its_cause(self) -> None:
        bank = make()
        join(bank)
        bank.rc1.faults.hardware[0] = True
        run(bank, 0.2)
        assert status(bank, 201) & Rc1Status.HARDWARE_FAULT
        bank.write(G, 201, 8, [0xC1EA])
        assert status(bank, 201) & Rc1Status.HARDWARE_FAULT
        bank.rc1.faults.hardware[0] = False
        run(bank, 0.2)
        assert status(bank, 201) & Rc1Status.HARDWARE_FAULT
        bank.write(G, 201, 8, [0xC1EA])
        assert not status(bank, 201) & Rc1Status.HARDWARE_FAULT

    def test_welded_contactor_shows_mismatch_and_keeps_the_link_up(self) -> None:
        bank = make()
        join(bank)
        bank.rc1.faults.welded[0] = True
        bank.write(G, 201, 7, [0])
        run(bank, 0.6)
        row = words(bank, 201)
        assert row[2] & Rc1Status.CONTACTOR_MISMATCH
        assert row[2] & Rc1Status.CONTACTOR_CLOSED
        assert row[16] == row[3]

    def test_contactor_that_does_not_close_shows_mismatch(self) -> None:
        bank = make()
        bank.rc1.faults.stuck_open[0] = True
        join(bank)
        run(bank, 0.5)
        assert status(bank, 201) & Rc1Status.CONTACTOR_MISMATCH
        assert not status(bank, 201) & Rc1Status.CONTACTOR_CLOSED

    def test_opening_under_load_is_counted(self) -> None:
        bank = make()
        join(bank, 1000)
        bank.write(G, 201, 7, [0])
        run(bank, 0.2)
        assert bank.rc1.opened_under_load == 1


def test_frozen_node_keeps_its_whole_block() -> None:
    bank = make()
    join(bank, 800)
    bank.rm1.faults.frozen[0] = True
    before = words(bank, 1, 0, 24)
    run(bank, 2.0)
    assert words(bank, 1, 0, 24) == before
    assert words(bank, 2)[16] != before[16]


def test_restart_forgets_everything_volatile() -> None:
    bank = make()
    join(bank, 800)
    run(bank, 30.0, step=1.0)
    one = np.array([True, False, False, False])
    bank.rm1.restart(one, bank.plant.time_s, bank.plant.charge_out_ah)
    bank.step(0.05, 0.3)
    row = words(bank, 1)
    assert row[11] == 0
    assert row[12:14] == [0, 0]
    assert not row[3] & Rm1Status.INSERTED
    assert words(bank, 2)[11] > 20
