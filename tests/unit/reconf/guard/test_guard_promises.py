"""The ladder, the way back and the sequences, line by line, each with the tests that show it.

A row is a promise of the design in its own words and the tests that would fail if it were broken; the numbers
of the promises stand in `test_the_numbers_of_the_promises_are_those_that_run`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.interval import HOLD_INTERVALS
from edge.modbus.writer import HEARTBEAT_SHARE
from reconf.sequences import conditions, nodes, sequencer
from reconf.verify.checks_switching import TOUCH_V

TESTS = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Promise:
    """One line."""

    chapter: str
    line: str
    shown_by: tuple[str, ...]


PROMISES = (
    Promise(
        "ladder",
        "plan missing, late, infeasible or inaccurate: the last verified plan, two intervals; then the rule",
        (
            "test_the_ladder_is_descended_rung_by_rung_and_climbed_at_once",
            "test_optimizer_that_hangs_or_gives_up_costs_a_rung_and_no_power",
        ),
    ),
    Promise(
        "ladder",
        "envelope empty or verify refuses: power 0, strings stay connected",
        (
            "test_without_any_plan_the_site_stands_at_power_zero",
            "test_power_zero_is_let_through_whatever_the_envelope_says",
            "test_standby_keeps_the_strings_connected_without_power",
        ),
    ),
    Promise(
        "ladder",
        "latched open fault or emergency stop: left; only an operator's clear (on site for the site), refused"
        " while the cause persists",
        (
            "test_an_emergency_stop_and_an_open_site_fault_leave_within_ticks_and_stay_latched",
            "test_emergency_stop_opens_everything_latches_and_is_cleared_on_site_only",
            "test_a_clear_is_refused_while_the_cause_persists",
            "test_latched_fault_is_refused_while_it_persists_then_cleared",
            "test_no_fault_mode_is_left_without_a_clear",
        ),
    ),
    Promise(
        "ladder",
        "a module's writes unconfirmed for two ticks: out of service; string left only if the window fails",
        ("test_modules_that_take_no_writes_are_out_and_their_string_is_left_only_where_its_window_fails",),
    ),
    Promise(
        "ladder",
        "a converter's writes unconfirmed for two ticks: heartbeat stops, its watchdog opens"
        " it, others go on",
        ("test_a_converter_that_takes_no_writes_for_two_ticks_gets_no_heartbeat_and_the_others_go_on",),
    ),
    Promise(
        "ladder",
        "one module stale: bypassed; the worse of inserted and bypassed until its watchdog time has passed",
        (
            "test_silent_module_is_bypassed_and_the_others_serve_on",
            "test_a_silent_module_is_unsure_until_its_watchdog_has_run_out",
            "test_a_silent_module_counts_as_in_and_as_out",
        ),
    ),
    Promise(
        "rejoin",
        "only after fresh, plausible readings for a set time and within the window",
        (
            "test_stale_module_returns_after_ten_good_seconds",
            "test_it_rejoins_by_itself_after_a_minute_of_good_readings_three_times_an_hour",
            "test_a_string_joins_only_within_the_difference_that_protection_allows",
        ),
    ),
    Promise(
        "ladder",
        "a converter lost: its string counts as open, the others take its share",
        (
            "test_a_lost_converter_opens_by_its_own_watchdog_and_the_others_go_on",
            "test_lost_converter_counts_as_open_and_comes_back",
        ),
    ),
    Promise(
        "ladder",
        "broker lost: nothing changes; the last command holds until it expires, then the fallback",
        (
            "test_broker_absent_then_up_killed_and_back_is_not_felt",
            "test_set_point_expires_in_wall_time_and_falls_back",
            "test_expiry_hands_over_to_the_fallback",
        ),
    ),
    Promise(
        "ladder",
        "disk full or read-only: control goes on, the loss is reported",
        ("test_full_disk", "test_state_directory_that_cannot_be_opened"),
    ),
    Promise("ladder", "clock jumps move nothing", ("test_wall_clock_jumps_move_nothing",)),
    Promise(
        "ladder",
        "status names the rung and why",
        ("test_commands_over_a_real_broker_and_status_that_tells_the_truth",),
    ),
    Promise(
        "sequences",
        "leaving: ramp to 0, MODE 0, open under 1 A or after 0.5 s, read open, only then bypass",
        (
            "test_it_is_left_in_the_one_safe_order",
            "test_no_switch_moves_before_the_contactor_was_read_open",
            "test_switches_are_bypassed_only_after_the_contactor_was_read_open",
            "test_no_module_is_bypassed_behind_a_closed_contactor_when_leaving",
        ),
    ),
    Promise(
        "sequences",
        "joining: inserted into the window, voltage plausible, precharge, read closed, then"
        " power; not welded",
        (
            "test_a_site_starts_by_clearing_inserting_precharging_and_only_then_gives_power",
            "test_a_live_link_behind_an_open_contactor_forbids_closing",
            "test_no_path_closes_a_contactor_without_precharge",
            "test_only_a_joined_string_carries_power",
        ),
    ),
    Promise(
        "sequences",
        "heartbeats are earned: fresh image, verified command, confirmed receipt of that node",
        (
            "test_heartbeats_are_earned_node_by_node",
            "test_heartbeats_go_out_every_quarter_of_the_watchdog_and_change_each_time",
            "test_watchdog_starves_when_ticks_do_not_complete_and_so_do_the_nodes",
        ),
    ),
    Promise(
        "sequences",
        "a converter always stops before modules bypass under it; else the string is left within 3 s",
        (
            "test_a_converter_is_open_before_its_silent_modules_bypass_themselves_at_any_tick",
            "test_a_string_whose_window_fails_without_its_silent_modules_is_left",
        ),
    ),
    Promise(
        "sequences",
        "clearing a latch: zero every command register, read back, then CLEAR; alone only lone watchdogs",
        (
            "test_clear_zeroes_reads_back_feeds_and_only_then_clears",
            "test_clear_is_not_written_when_zero_does_not_read_back",
            "test_it_rejoins_by_itself_after_a_minute_of_good_readings_three_times_an_hour",
            "test_a_tripped_node_stays_out_until_its_own_latch_is_cleared",
        ),
    ),
    Promise(
        "sequences",
        "current follows power: the limit is lowered before a weaker module comes in, raised after it left",
        (
            "test_current_limit_is_lowered_before_power_changes_and_raised_after",
            "test_a_weak_module_may_leave_although_the_current_is_still_above_its_limit",
            "test_a_change_that_is_safe_at_its_end_is_staged_into_steps_that_pass",
        ),
    ),
    Promise(
        "sequences",
        "switching is not atomic: window and limits hold for every subset of unfinished writes",
        (
            "test_sums_of_extremes_bound_every_subset_of_unfinished_writes",
            "test_a_module_that_shows_another_state_is_taken_for_either",
        ),
    ),
    Promise(
        "sequences",
        "maintenance is local; hands inside need open contactors, under 60 V, lock, measured absence",
        (
            "test_maintenance_leaves_every_string_and_ignores_run_until_released",
            "test_a_command_that_waited_while_the_lock_was_taken_is_refused",
            "test_hands_go_in_only_when_everything_speaks_for_it",
        ),
    ),
    Promise(
        "sequences",
        "the bus has one master; when it is lost every converter goes to MODE 0",
        (
            "test_without_its_master_no_converter_runs",
            "test_bus_stays_close_through_slots_and_load_steps_and_all_stop_when_the_master_is_lost",
        ),
    ),
    Promise(
        "sequences",
        "restart: open stays open; closed stays at power 0 until commanded, or is left without"
        " a plausible image",
        (
            "test_at_a_restart_open_stays_open",
            "test_at_a_restart_closed_stays_closed_at_power_zero_until_commanded",
            "test_at_a_restart_a_closed_string_without_plausible_image_is_left_within_three_seconds",
            "test_killed_daemon_resumes_what_is_closed_and_closes_nothing",
            "test_held_modes_live_through_a_restart",
            "test_sequences_and_replies_survive_a_restart",
        ),
    ),
    Promise(
        "sequences",
        "three clocks: UTC of commands to a monotonic deadline; physics in control time;"
        " watchdogs in wall time",
        (
            "test_a_jump_of_the_date_moves_neither_monotonic_clock_nor_a_deadline",
            "test_control_time_runs_scaled_and_wall_time_does_not",
            "test_revert_counts_in_control_time",
        ),
    ),
    Promise(
        "sequences",
        "no clock, no remote power: only emergency stop and standby; an emergency stop ignores expiry",
        (
            "test_without_a_clock_only_stop_and_standby",
            "test_emergency_stop_needs_no_sequence_and_no_clock",
        ),
    ),
)


@pytest.fixture(scope="module")
def tests_there() -> set[str]:
    return {
        name
        for file in TESTS.rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }


@pytest.mark.parametrize("promise", PROMISES, ids=lambda p: p.line[:40])
def test_every_line_is_shown_by_tests_that_exist(promise, tests_there):
    assert promise.shown_by
    assert set(promise.shown_by) <= tests_there


def test_the_numbers_of_the_promises_are_those_that_run():
    assert HOLD_INTERVALS == 2
    assert nodes.OUT_AFTER_TICKS == 2
    assert (nodes.RC1_WATCHDOG_S, nodes.RM1_WATCHDOG_S) == (3.0, 6.0)
    assert (nodes.REJOIN_GOOD_S, nodes.CLEARS_PER_HOUR) == (60.0, 3)
    assert (conditions.UNLOADED_A, conditions.UNLOADED_S) == (1.0, 0.5)
    assert HEARTBEAT_SHARE == 0.25
    assert sequencer.UNSEEN_S <= 3.0
    assert TOUCH_V == 60.0
