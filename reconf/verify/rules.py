"""The rules of verify as one table: stable id, what it protects against, unit, one plain sentence.

docs/safety-concept.md traces hazards to these ids; a test keeps both in step.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of verify."""

    rule: str
    unit: str
    text: str
    """What is wrong when it is broken."""


_ROWS = (
    Rule(
        "shape",
        "elements",
        "an array of the command has the wrong size for this site, or holds no such values",
    ),
    Rule("not_finite", "", "a number of the command is NaN or infinite"),
    Rule("duty_range", "1", "a duty lies outside 0..1, or disagrees with the insert state"),
    Rule("mode_value", "1", "a converter mode is none of 0, 1, 2"),
    Rule("negative_limit", "A", "a current limit is negative"),
    Rule("site_open", "1", "the site must be left, yet the string would carry power or close"),
    Rule("string_unusable", "1", "the string must not be used, yet it would carry power or close"),
    Rule("insertion_forbidden", "1", "a module is inserted that must be bypassed"),
    Rule("insertion_forced", "1", "a module is bypassed that must stay inserted"),
    Rule("stale_module", "s", "a module would be switched in that has given no fresh readings"),
    Rule("stale_string", "s", "the converter has given no fresh readings: only less may be asked of it"),
    Rule("converter_latched", "1", "the converter has a latch or an emergency stop that forbids power"),
    Rule("unknown_voltage", "1", "neither measurement nor estimate knows an inserted module's voltage"),
    Rule("window_min", "V", "the string voltage under load would fall below the converter's window"),
    Rule("window_max", "V", "the string voltage would rise above the converter's window"),
    Rule("module_discharge", "A", "the current limit lets more flow than an inserted module may give now"),
    Rule("module_charge", "A", "the current limit lets more flow than an inserted module may take now"),
    Rule("sum_discharge", "A", "string and trim current together would take more than a module bears"),
    Rule("sum_charge", "A", "string and trim current together would force in more than a module bears"),
    Rule("cell_voltage_min", "V", "a cell group would be pulled below its safety limit"),
    Rule("cell_voltage_max", "V", "a cell group would be pushed above its safety limit"),
    Rule("charge_left", "Ah", "more charge would leave a module than it has before it is looked at again"),
    Rule("charge_room", "Ah", "more charge would enter a module than it has room for until looked at again"),
    Rule("temperature_max", "degC", "a module at its safety temperature would carry current"),
    Rule("temperature_min", "degC", "a module below its lowest safety temperature would carry current"),
    Rule("charge_temperature", "degC", "a module outside its charging temperatures would be charged"),
    Rule("converter_power", "W", "more power than the converter is rated or allowed for"),
    Rule("converter_current", "A", "a current limit above the converter's rating or allowance"),
    Rule("trim_rating", "A", "a trim current above the trim converter's rating"),
    Rule("trim_give", "A", "a trim current out of a module above what it may give"),
    Rule("trim_take", "A", "a trim current into a module above what it may take"),
    Rule("trim_balance", "W", "the trim currents of a string do not balance on its trim bus"),
    Rule("ramp", "W", "the site power would change faster than its ramp"),
    Rule("dwell", "s", "a module would be switched again before its dwell has passed"),
    Rule("switch_count", "switchings", "a module would be switched more often than the interval allows"),
    Rule("string_bypassed", "modules", "no module would surely stay in behind a contactor not read open"),
    Rule("maintenance", "1", "the contactor would close although maintenance is held on site"),
    Rule("site_inputs", "1", "the contactor would close although a wired input of the site is not known"),
    Rule("insulation", "ohm/V", "the contactor would close although the insulation is low or not known"),
    Rule("welded", "V", "the contactor would close although the link is live behind an open contactor"),
    Rule("contactor_mismatch", "1", "the contactor would close although it does not follow its command"),
    Rule("connect_voltage", "V", "the contactor would close though string and module voltages disagree"),
    Rule("connect_inrush", "A", "closing over the voltage difference would drive more than a module bears"),
    Rule("close_unloaded", "1", "the contactor would close with the converter running or power asked"),
    Rule("close_settled", "1", "the contactor would close before the inserted modules were read back"),
    Rule("power_before_closed", "1", "power would be asked before the contactor was read back closed"),
    Rule("bus_master", "1", "a converter would hold the bus that is not the site's bus master"),
    Rule("bus_setpoint", "V", "the bus voltage set point lies outside the bus window"),
    Rule("bus_lost", "V", "nobody holds the bus within its window, yet a converter would run"),
    Rule("subset_window_min", "V", "with some writes still missing the voltage would leave the window below"),
    Rule("subset_window_max", "V", "with some writes still missing the voltage would leave the window above"),
    Rule("subset_discharge", "A", "with some writes still missing a module would give more than it may"),
    Rule("subset_charge", "A", "with some writes still missing a module would take more than it may"),
)

RULES: dict[str, Rule] = {row.rule: row for row in _ROWS}
"""Rules by id."""
