"""Hazards (FMEA) as data: what software does against each, what hardware must do by itself, what shows it.

docs/safety-concept.md is made from this table; tests check that every rule, fault, phase and test it names
exists. S severity, O occurrence without these measures, D difficulty of detection, each 1..5 (5 worst), are
judgements for ordering the work, not measurements.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hazard:
    """One row of the FMEA."""

    hazard: str
    cause: str
    effect: str
    severity: int
    occurrence: int
    detection: int
    faults: tuple[str, ...]
    """Ids of the fault table (docs/faults.md)."""
    rules: tuple[str, ...]
    """Ids of verify's rules."""
    sequence: str
    """What the sequences do."""
    hardware: str
    """What hardware must do whatever software does."""
    tests: tuple[str, ...]
    """Names of tests (or benchmarks) that show it."""

    @property
    def number(self) -> int:
        """Risk priority number S * O * D."""
        return self.severity * self.occurrence * self.detection


HAZARDS: tuple[Hazard, ...] = (
    Hazard(
        "H1 over-charge of a cell group",
        "a full or small module stays in while charging",
        "lithium plating, gas, fire",
        5,
        4,
        2,
        ("cell_overvoltage", "over_voltage_trip", "sensors_untrusted"),
        ("cell_voltage_max", "charge_room", "module_charge", "subset_charge"),
        "the module is bypassed in the same tick; where the window forbids it the string is left",
        "RM1 over-voltage trip; cell-level vent and spacing",
        ("test_each_rule_has_a_change_that_breaks_it", "bench hostile", "bench faults"),
    ),
    Hazard(
        "H2 over-discharge and reversal of a cell group",
        "a weak group is dragged empty by the string",
        "copper dissolution, internal short on the next charge",
        4,
        4,
        3,
        ("cell_undervoltage", "copper_exposure", "cell_reading_zero", "cell_imbalance_severe"),
        ("cell_voltage_min", "charge_left", "module_discharge", "subset_discharge"),
        "the module is bypassed in the same tick; lock-out by its passport",
        "RM1 under-voltage trip",
        ("test_each_rule_has_a_change_that_breaks_it", "bench hostile", "bench faults"),
    ),
    Hazard(
        "H3 over-temperature and thermal runaway",
        "losses, failed cooling, internal short",
        "propagating fire",
        5,
        3,
        2,
        (
            "over_temperature",
            "temperature_high",
            "thermal_runaway",
            "temperature_difference",
            "gas_alarm",
            "smoke_alarm",
            "fire_alarm",
            "ventilation_failed",
            "cooling_failed",
            "cooling_ineffective",
            "cooling_lost",
            "site_output_failed",
        ),
        ("temperature_max", "insertion_forbidden", "site_open"),
        "open-site faults leave every string; only a clear on site leads out",
        "RM1 over-temperature trip; fire detection, gas extraction and enclosure of the installation",
        (
            "test_an_emergency_stop_and_an_open_site_fault_leave_within_ticks_and_stay_latched",
            "test_a_detector_opens_the_site_sounds_and_stays_latched",
            "test_a_runaway_is_found_however_samples_and_ticks_fall",
            "test_a_cell_that_fell_before_the_heat_counts_as_well",
            "bench faults",
        ),
    ),
    Hazard(
        "H4 lithium plating on cold charge",
        "charging below the temperature or above the current an aged anode takes",
        "capacity loss, dendrites, internal short",
        4,
        3,
        4,
        ("cold_charge", "hot_charge", "temperature_low"),
        ("charge_temperature", "temperature_min", "module_charge", "subset_charge"),
        "none",
        "none: hardware cannot see it",
        ("test_each_rule_has_a_change_that_breaks_it", "bench hostile"),
    ),
    Hazard(
        "H5 short circuit of the converter's link",
        "a whole string bypassed behind a closed contactor",
        "arc, destroyed switches",
        5,
        3,
        1,
        ("converter_lost", "window_unreachable"),
        ("string_bypassed",),
        "modules are bypassed only behind a contactor that was read open; RC1 watchdog 3 s, RM1 watchdog 6 s",
        "string fuse; RC1 opens by its own watchdog before RM1 bypass",
        (
            "test_no_walk_bypasses_a_string_behind_a_closed_contactor",
            "test_switches_are_bypassed_only_after_the_contactor_was_read_open",
            "test_bypassing_everything_needs_the_contactor_read_open",
        ),
    ),
    Hazard(
        "H6 closing onto a voltage difference",
        "contactor closed without precharge or onto a live link",
        "inrush, welded contactor",
        4,
        3,
        2,
        (
            "contactor_welded",
            "contactor_mismatch",
            "contactor_opened",
            "string_voltage_implausible",
            "join_failed",
        ),
        (
            "welded",
            "contactor_mismatch",
            "connect_voltage",
            "connect_inrush",
            "close_unloaded",
            "close_settled",
        ),
        "JOINED comes only after PRECHARGE, on a contactor that was read closed; three failed joins at most",
        "RC1 precharge with its own time-out; string fuse",
        (
            "test_no_path_closes_a_contactor_without_precharge",
            "test_a_live_link_behind_an_open_contactor_forbids_closing",
            "test_a_string_that_does_not_close_is_tried_three_times_and_then_waits_for_a_start",
            "test_a_contactor_that_opened_unasked_stays_open_until_somebody_clears_it",
            "test_a_command_that_takes_a_contactor_for_closed_does_not_close_it_again",
            "test_only_a_computed_inrush_may_flow_on_closing",
            "test_no_closing_that_verify_accepts_drives_more_than_a_module_bears",
        ),
    ),
    Hazard(
        "H7 welded contactor",
        "contacts fused by inrush or age",
        "the string cannot be isolated",
        4,
        2,
        2,
        ("contactor_welded", "contactor_mismatch"),
        ("string_bypassed", "welded"),
        "WELDED: switches hold, power stays 0, only a person leads out",
        "string disconnect with a visible break, locked before hands go in",
        (
            "test_a_welded_contactor_keeps_its_modules_inserted_and_never_closes_again",
            "test_a_welded_string_is_left_only_by_a_person",
        ),
    ),
    Hazard(
        "H8 over-current",
        "power held by the converter while the string voltage falls; a weak module comes in",
        "heat in tabs and wires, blown fuse",
        4,
        3,
        2,
        ("over_current_discharge", "over_current_charge", "string_over_current", "string_over_power"),
        (
            "module_discharge",
            "module_charge",
            "sum_discharge",
            "sum_charge",
            "converter_current",
            "subset_discharge",
            "subset_charge",
        ),
        "current limits are lowered before a weaker module comes in and raised after it left",
        "RC1 enforces STRING_CURRENT_LIMIT within 20 ms; string fuse",
        (
            "test_a_change_that_is_safe_at_its_end_is_staged_into_steps_that_pass",
            "test_sums_of_extremes_bound_every_subset_of_unfinished_writes",
        ),
    ),
    Hazard(
        "H9 string voltage outside the converter's window",
        "too few or too many modules inserted in some slot",
        "converter trips, over-voltage of the link",
        3,
        4,
        1,
        ("window_unreachable", "string_voltage_outside"),
        ("window_min", "window_max", "subset_window_min", "subset_window_max", "unknown_voltage"),
        "a string is left when what remains cannot reach the window",
        "RC1 stops outside its window",
        (
            "test_sums_of_extremes_bound_every_subset_of_unfinished_writes",
            "test_a_string_whose_window_fails_without_its_silent_modules_is_left",
        ),
    ),
    Hazard(
        "H10 control lost or hung",
        "crash, hung optimizer, lost bus, unconfirmed writes",
        "nodes keep acting on old commands",
        4,
        3,
        2,
        (
            "readings_stale",
            "node_watchdog",
            "converter_lost",
            "module_writes_refused",
            "converter_writes_refused",
        ),
        ("stale_module", "stale_string", "converter_latched"),
        "heartbeats are earned by fresh image, verified command and confirmed receipt; a node that takes no "
        "writes gets none; failure ladder",
        "host watchdogs of RM1 and RC1; the daemon's own watchdog by the init system",
        (
            "test_heartbeats_are_earned_node_by_node",
            "test_a_lost_converter_opens_by_its_own_watchdog_and_the_others_go_on",
            "test_a_module_that_takes_no_writes_leaves_by_its_own_watchdog_and_says_so",
            "test_a_converter_that_takes_no_writes_counts_as_lost_and_the_other_serves",
            "bench faults",
        ),
    ),
    Hazard(
        "H11 a wrong plan",
        "optimizer error, hostile or mistaken command",
        "any of the above",
        5,
        3,
        1,
        (),
        ("shape", "not_finite", "duty_range", "mode_value", "negative_limit", "converter_power", "ramp"),
        "nothing reaches a wire unverified",
        "as for the hazard it would cause",
        (
            "test_garbage_never_lets_power_through_and_never_raises",
            "test_only_verify_makes_verified_commands",
            "bench hostile",
        ),
    ),
    Hazard(
        "H12 lying sensor",
        "drift, frozen sample, replay, spoofed value",
        "limits computed from lies",
        4,
        3,
        4,
        ("sensors_untrusted", "readings_stale", "cell_reading_zero", "temperature_sensor_fault"),
        ("stale_module", "insertion_forbidden", "unknown_voltage"),
        "an untrusted module is bypassed; both views of a module's voltage are held against each other",
        "RM1 trips act on the node's own sensors: a lie there disables them too",
        ("test_garbage_never_lets_power_through_and_never_raises", "bench faults", "bench integrity"),
    ),
    Hazard(
        "H13 switch stuck",
        "half bridge failed closed or open",
        "a module cannot be taken out or put in",
        3,
        2,
        1,
        ("switch_fault", "module_writes_refused", "module_cannot_leave"),
        ("insertion_forced", "unknown_voltage", "window_min"),
        "the module counts as what it shows; the string is left where it must leave and cannot",
        "RM1 reports commanded against sensed state",
        (
            "test_a_stuck_switch_counts_as_what_it_shows",
            "test_a_switch_that_reads_otherwise_than_its_register_is_a_switch_fault",
            "bench faults",
        ),
    ),
    Hazard(
        "H14 nobody, or two, hold the DC bus",
        "PCS tripped, two converters in voltage mode",
        "bus over- or under-voltage",
        3,
        2,
        1,
        ("bus_voltage",),
        ("bus_master", "bus_setpoint", "bus_lost"),
        "every converter goes to MODE 0",
        "over-voltage protection of PCS and RC1",
        ("test_without_its_master_no_converter_runs",),
    ),
    Hazard(
        "H15 hands inside while live",
        "maintenance without isolation",
        "electrocution, arc",
        5,
        2,
        2,
        ("door_open", "insulation_fault", "insulation_low", "insulation_unknown", "isolation_lost"),
        ("site_open", "maintenance", "insulation"),
        "the maintenance lock is taken and released on site only, is persisted, and waits for every permit; "
        "strings are left, nothing closes; hands inside need open contactors, under 60 V, lock, measurement",
        "disconnect locked; absence of voltage measured by the person: software cannot vouch for it",
        (
            "test_maintenance_leaves_every_string_and_ignores_run_until_released",
            "test_maintenance_from_taking_to_release_and_over_a_restart",
            "test_hands_go_in_only_when_everything_speaks_for_it",
        ),
    ),
    Hazard(
        "H16 unwanted closing after a fault or restart",
        "persisted mode, automatic retry",
        "re-energised fault",
        5,
        3,
        1,
        (),
        ("power_before_closed", "converter_latched"),
        "open stays open at a restart; FAULT and EMERGENCY_STOP end in OFF and wait for a new command",
        "contactors without power are open",
        (
            "test_at_a_restart_open_stays_open",
            "test_no_fault_mode_is_left_without_a_clear",
            "test_run_and_standby_are_reached_only_through_precharge",
        ),
    ),
    Hazard(
        "H20 emergency stop not seen or not obeyed",
        "broken loop, lost site I/O unit, hung control",
        "the site stays live in an emergency",
        5,
        2,
        2,
        ("emergency_stop", "emergency_stop_unknown", "site_input_unknown"),
        ("site_open", "converter_latched", "site_inputs"),
        "site inputs are read first in each tick; an unseen loop opens after five seconds; a stop is latched",
        "the emergency stop opens the contactors by wire, whatever software does",
        (
            "test_a_detector_opens_the_site_sounds_and_stays_latched",
            "test_a_lost_unit_forbids_closing_and_an_unseen_emergency_stop_opens",
            "test_an_alarm_in_the_image_is_enough_whatever_the_envelope_says",
        ),
    ),
    Hazard(
        "H17 trim bus over-loaded or unbalanced",
        "trim currents that do not add up",
        "heat, wrong balance",
        2,
        3,
        1,
        ("trim_fault",),
        ("trim_rating", "trim_give", "trim_take", "trim_balance"),
        "none",
        "RM1 scales the larger side down",
        ("test_each_rule_has_a_change_that_breaks_it",),
    ),
    Hazard(
        "H18 switches worn out or chattering",
        "hunting between plans",
        "switch failure, bus ripple",
        2,
        3,
        1,
        (),
        ("dwell", "switch_count"),
        "none",
        "none",
        ("test_each_rule_has_a_change_that_breaks_it",),
    ),
    Hazard(
        "H19 a string used against protection",
        "protection says no, a plan says yes",
        "any of the above",
        4,
        2,
        1,
        ("converter_fault", "converter_over_temperature"),
        ("string_unusable", "insertion_forbidden"),
        "the string is left; the others go on",
        "RC1 hardware fault opens its contactor",
        ("test_one_unusable_string_is_left_and_the_other_goes_on",),
    ),
)


def hazard_rows() -> list[str]:
    """The FMEA as lines of a Markdown table."""
    heads = (
        "hazard",
        "cause",
        "effect",
        "S",
        "O",
        "D",
        "S·O·D",
        "faults",
        "rules of verify",
        "sequences",
        "hardware must",
        "shown by",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]

    def ids(names: tuple[str, ...]) -> str:
        return ", ".join(f"`{name}`" for name in names) or "none"

    for h in HAZARDS:
        cells = [h.hazard, h.cause, h.effect, h.severity, h.occurrence, h.detection, h.number]
        cells += [ids(h.faults), ids(h.rules), h.sequence, h.hardware, ids(h.tests)]
        lines += ["| " + " | ".join(map(str, cells)) + " |"]
    return lines
