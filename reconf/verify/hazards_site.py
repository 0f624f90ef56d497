"""Hazards of the place: supply, clocks, disks, moisture, people, and one cause behind two sensors."""

from __future__ import annotations

from reconf.verify.hazard import Hazard

SITE_HAZARDS: tuple[Hazard, ...] = (
    Hazard(
        "H21 arc where a contact opens under load",
        "the converter does not stop in time; emergency stop by wire; a converter's own watchdog or fault",
        "burnt or welded contacts, arc that does not go out at 800 V DC",
        5,
        3,
        2,
        ("contactor_opened", "contactor_mismatch", "contactor_welded"),
        ("close_unloaded", "string_bypassed"),
        "power 0 and MODE 0 before the contactor, which opens below 1 A, at the latest after 0.5 s; no "
        "other write stands before them",
        "contactor and fuse rated to break the string's full current at its highest voltage, in both "
        "directions: the emergency stop by wire and RC1's own trips open without a ramp",
        (
            "test_a_contactor_opens_below_one_ampere_or_half_a_second_after_mode_zero",
            "test_leaving_a_string_writes_nothing_before_mode_zero_and_the_open_contactor",
            "test_a_detector_opens_the_site_sounds_and_stays_latched",
        ),
    ),
    Hazard(
        "H22 module reversed or in the wrong place",
        "crossed leads, swapped modules, wrong unit id after a repair",
        "reverse charging, a string voltage that nobody expects",
        5,
        2,
        2,
        ("cell_reading_zero", "copper_exposure", "string_voltage_implausible"),
        ("connect_voltage", "connect_inrush"),
        "no precharge before the converter sees the sum of the modules; a node with another serial number "
        "than the site file's is kept out",
        "keyed or marked plugs; polarity measured before the first connection (commissioning step)",
        (
            "test_a_reversed_module_reads_zero_and_takes_its_voltage_from_the_string",
            "test_a_reversed_cell_is_locked_out_for_ever",
            "test_strangers_are_kept_out_told_once_and_let_in_when_mended",
            "test_swapped_nodes_and_a_wrong_unit_id",
        ),
    ),
    Hazard(
        "H23 earth fault behind an open contactor",
        "damaged cable or moisture in an isolated string; the monitor sits at the bus and does not see it",
        "shock in maintenance although every reading is good; a second earth fault shorts part of the string",
        5,
        2,
        4,
        ("insulation_low", "insulation_fault", "insulation_unknown", "isolation_lost"),
        ("insulation", "maintenance"),
        "nothing closes while the insulation is low or unknown; modules are bypassed, so that an open "
        "string shows no voltage at its ends",
        "insulation measured on the string side before hands go in; insulated tools; mid-point disconnects "
        "so that no accessible part carries more than the touch voltage of its section",
        (
            "test_insulation_warns_opens_and_forbids_closing_while_unknown",
            "test_an_unknown_input_keeps_a_string_open_whatever_its_bypassed_modules_show",
            "test_hands_go_in_only_when_everything_speaks_for_it",
        ),
    ),
    Hazard(
        "H24 auxiliary supply lost",
        "one 24 V supply behind nodes, converters, site inputs and this controller",
        "no readings, no alarm, contactors drop under load, ventilation and sounder dead",
        4,
        3,
        2,
        (
            "readings_stale",
            "converter_lost",
            "site_input_unknown",
            "site_output_failed",
            "emergency_stop_unknown",
        ),
        ("stale_string", "stale_module", "site_inputs"),
        "what falls silent counts as lost; an unseen emergency-stop loop opens the site; after the supply "
        "is back nothing closes by itself",
        "contactors open and RM1 bypasses without supply; detectors, extraction and sounder on a supply of "
        "their own; under-voltage of the auxiliary supply opens contactors before coils chatter",
        (
            "test_a_lost_unit_forbids_closing_and_an_unseen_emergency_stop_opens",
            "test_a_lost_converter_opens_by_its_own_watchdog_and_the_others_go_on",
            "test_at_a_restart_open_stays_open",
        ),
    ),
    Hazard(
        "H25 a node starts anew within an interval",
        "firmware reset, brown-out, loose plug",
        "a module is out although it was commanded in, or obeys an old command after its latch clears",
        4,
        3,
        2,
        ("node_watchdog", "contactor_opened", "readings_stale"),
        ("subset_window_min", "subset_window_max", "unknown_voltage", "power_before_closed"),
        "a module that shows another state than commanded counts both ways until read back; command "
        "registers are zero before CLEAR; latches are cleared in bypassed modules and open strings only",
        "a node comes up bypassed, a converter open",
        (
            "test_a_module_that_shows_another_state_than_commanded_may_stand_either_way_until_it_was_read_back",
            "test_latches_are_cleared_in_bypassed_modules_and_open_strings_only",
            "test_restart_forgets_everything_volatile",
            "test_restarted_node_gets_its_commands_again",
        ),
    ),
    Hazard(
        "H26 the clock jumps",
        "no battery clock, wrong time server, summer time",
        "an expired command is obeyed, a valid one is not, ramps and watchdogs run wrong",
        3,
        3,
        1,
        (),
        ("ramp",),
        "control and deadlines run on the monotonic clock; without a synchronised clock only stop and "
        "standby are taken from afar",
        "none",
        (
            "test_wall_clock_jumps_move_nothing",
            "test_a_jump_of_the_date_moves_neither_monotonic_clock_nor_a_deadline",
            "test_without_a_clock_only_stop_and_standby",
            "test_emergency_stop_needs_no_sequence_and_no_clock",
        ),
    ),
    Hazard(
        "H27 disk full, read-only or torn",
        "worn SD card, logs, power cut while writing",
        "a latch or a lock is forgotten at the next start",
        4,
        3,
        2,
        (),
        ("maintenance",),
        "latches, mode and locks are written before anything is acknowledged; a full disk is told, stops no "
        "stop and refuses new commands; a lock that cannot be read counts as held. A latch that is raised "
        "while the disk takes nothing is written once it does; killed before, only its cause tells of it",
        "contactors without heartbeat are open: a start finds nothing closed that was not closed",
        (
            "test_full_disk_is_told_changes_nothing_and_passes",
            "test_a_hanging_disk_stops_no_stop",
            "test_killed_writer_loses_nothing_it_acknowledged",
            "test_what_the_store_kept_comes_back_and_garbage_counts_as_held",
        ),
    ),
    Hazard(
        "H28 condensation, water, flooding",
        "cold modules in warm moist air, leaking coolant, sprinklers, flood",
        "creeping current, earth fault, arc inside a module, electrolysis gas",
        4,
        3,
        3,
        ("insulation_low", "insulation_fault", "gas_alarm", "cell_leakage"),
        ("insulation", "site_open"),
        "insulation opens the site below its limit; nothing here measures humidity or dew point",
        "dry air or heating against condensation, a leak sensor wired as `gas_alarm` or into the emergency "
        "stop, modules above flood level; a flooded module stays charged whatever a contactor does",
        (
            "test_insulation_warns_opens_and_forbids_closing_while_unknown",
            "test_an_insulation_that_was_known_once_is_not_known_for_ever",
        ),
    ),
    Hazard(
        "H29 fire service in front of charged modules",
        "fire or smoke; responders need the site dead and to know that it is not",
        "shock through water, re-ignition hours later, deflagration when a door is opened into gas",
        5,
        2,
        3,
        ("fire_alarm", "smoke_alarm", "gas_alarm", "thermal_runaway"),
        ("site_open",),
        "every string is left and bypassed; gas is extracted unless the fire panel has spoken and was not "
        "cleared; nothing can discharge a module that is out, and nothing closes again without a clear on "
        "site",
        "a disconnect for the fire service at the entrance that opens every contactor by wire, "
        "deflagration vents, a sign with the stored energy and the voltage that remains inside modules and "
        "sections",
        (
            "test_a_detector_opens_the_site_sounds_and_stays_latched",
            "test_a_beginning_runaway_opens_the_site_and_extracts_gas",
            "test_no_fault_mode_is_left_without_a_clear",
        ),
    ),
    Hazard(
        "H30 one cause behind two sensors",
        "both temperature sensors of a node on one reference or supply; one gateway between all nodes and "
        "this controller; the node's trip fed by the sensor that it is to guard",
        "two readings agree and are both wrong",
        5,
        2,
        4,
        ("sensors_untrusted", "sensor_untrue", "temperature_sensor_fault", "string_voltage_implausible"),
        ("cell_voltage_max", "cell_voltage_min", "temperature_max"),
        "readings are held against models, neighbours and the converter, which share no supply with the "
        "node; a sensor that stands still is found; what is not believed is bypassed",
        "gas and smoke detection independent of the nodes; a thermal cut-out or fuse link in the module; "
        "the site's inputs on a line and a supply of their own",
        (
            "test_frozen_samples_are_called_frozen_and_their_age_grows",
            "test_garbage_never_lets_power_through_and_never_raises",
            "bench integrity",
        ),
    ),
)
