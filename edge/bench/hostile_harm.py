"""What harms a string, and how far from every limit a plan stayed."""

from __future__ import annotations

import numpy as np

from edge.bench.hostile_scene import Scene
from edge.bench.hostile_site import WatchedPlant
from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.protection.limits import Tier, site_limits
from reconf.site import Site

BARELY = 1.002
"""A voltage that high already is not raised by less."""
LIVE_FRAC = 0.1
"""Of the window's lower end: a link above that behind an open contactor has a voltage."""


def _by_string(site: Site, values: FloatArray) -> FloatArray:
    """Largest value of each string."""
    most = np.full(site.topology.n_strings, -np.inf)
    np.maximum.at(most, site.topology.string_of, values)
    return most


def harms(
    scene: Scene, plant: WatchedPlant, really: SlotCommand, highest_v: FloatArray, least_in: FloatArray
) -> dict[str, BoolArray]:
    """(S,) by what is harmed: a safety tier was passed.

    Voltages and temperatures count while current flows that somebody asked for: a plan is not to blame for
    what a module at rest was before. Currents are held against the *present* charge of the weakest group, as
    the limit tables have it, and those of parallel cells against their share of it.

    Args:
        scene: where.
        plant: after the interval.
        really: what the nodes did.
        highest_v: (S,) string voltage, at its highest, as far as it stood at the converter.
        least_in: (S,) modules inserted, at the fewest.
    """
    site, seen, limits = scene.site, plant.extremes, plant.limits
    mask = plant.bank.mask
    present_ah = np.where(mask, plant.truth.capacity_ah, np.inf).min(axis=1)
    peak = np.where(mask, plant.truth.branch_peak_frac, 1.0).max(axis=1)
    bears_out = _tier(site, "discharge_current_c", "max", Tier.SAFETY) * present_ah
    bears_in = _tier(site, "charge_current_c", "max", Tier.SAFETY) * present_ah
    excess = {
        "cell_voltage_max": seen.highest_moving_v - limits.cell_voltage_max_v,
        "cell_voltage_min": limits.cell_voltage_min_v - seen.lowest_moving_v,
        "temperature_max": seen.hottest_moving_degc - limits.temperature_max_degc,
        "temperature_min": limits.temperature_min_degc - seen.coldest_moving_degc,
        "charge_temperature_max": seen.hottest_charging_degc
        - _tier(site, "charge_temperature_degc", "max", Tier.SAFETY),
        "charge_temperature_min": _tier(site, "charge_temperature_degc", "min", Tier.SAFETY)
        - seen.coldest_charging_degc,
        "discharge_current": seen.most_a - bears_out,
        "charge_current": -seen.least_a - bears_in,
        "branch_discharge_current": seen.most_a * peak - bears_out,
        "branch_charge_current": -seen.least_a * peak - bears_in,
    }
    found = {name: _by_string(site, values) > 0.0 for name, values in excess.items()}
    spec = [s.converter for s in site.strings]
    top_v = np.array([c.voltage_max_v for c in spec])
    margin = site_limits()["string_voltage_margin_frac", "min"].tier(Tier.SAFETY)
    stood = _stood_v(scene)
    found["string_voltage_max"] = highest_v > np.maximum(top_v * (1.0 - margin), stood * BARELY)
    had = site.topology.sum_by_string(scene.in_force.inserted.astype(np.float64)) > 0.0
    closed = really.contactor | scene.plant.inputs.contactor_closed
    found["string_shorted"] = closed & had & (least_in == 0.0)
    found["inrush"] = _inrush(scene, really, bears_out)
    closes = really.contactor & ~scene.plant.inputs.contactor_closed
    found["closed_live"] = closes & np.isfinite(_live_v(scene))
    found["closed_loaded"] = closes & (really.mode != int(ConverterMode.OFF)) & (really.power_w != 0.0)
    return found


def _stood_v(scene: Scene) -> FloatArray:
    """(S,) voltage at the converter before; -inf: open."""
    plant = scene.plant
    return np.where(plant.inputs.contactor_closed, plant.true.string_voltage_v, -np.inf)


def _live_v(scene: Scene) -> FloatArray:
    """(S,) voltage of the link; NaN: none to speak of, such as a little left in its capacitor."""
    low_v = np.array([s.converter.voltage_min_v for s in scene.site.strings])
    link = scene.image.strings.link_voltage_v.value
    return np.where(np.abs(link) > LIVE_FRAC * low_v, link, np.nan)


def _inrush(scene: Scene, really: SlotCommand, bears_a: FloatArray) -> BoolArray:
    """(S,) a contactor closes over more than a module bears.

    The link is precharged to what the converter takes for the string's voltage, or stands where it stands.
    """
    site, plant = scene.site, scene.plant
    topology, closes = site.topology, really.contactor & ~scene.plant.inputs.contactor_closed
    if not closes.any():
        return closes
    link = _live_v(scene)
    at_v = np.where(np.isfinite(link), link, scene.image.strings.voltage_v.value)
    behind = np.where(really.inserted, plant.true.module_voltage_v, 0.0)
    ohm = topology.sum_by_string(
        np.where(really.inserted, plant.believed(None).r0_ohm, 0.0) + topology.r_on_ohm
    )
    inrush = np.abs(topology.sum_by_string(behind) - at_v) / ohm
    bears = -_by_string(site, np.where(really.inserted, -bears_a, -np.inf))
    return closes & (inrush > bears)


def _tier(site: Site, quantity: str, side: str, tier: Tier) -> FloatArray:
    """(M,) a tier of a limit."""
    rows = {c: table[quantity, side].tier(tier) for c, table in site.limits.items()}
    return np.array([rows[m.chemistry] for m in site.modules])


def severity_of(site: Site, plant: WatchedPlant) -> FloatArray:
    """(S,) largest way from the operating to the safety tier, over all quantities."""
    ways = []
    for quantity, side, value, sign in (
        ("cell_voltage_v", "max", plant.extremes.highest_moving_v, 1.0),
        ("cell_voltage_v", "min", plant.extremes.lowest_moving_v, -1.0),
        ("temperature_degc", "max", plant.extremes.hottest_moving_degc, 1.0),
    ):
        low = _tier(site, quantity, side, Tier.OPERATING)
        high = _tier(site, quantity, side, Tier.SAFETY)
        ways.append(sign * (value - low) / np.abs(high - low))
    rated = site.topology.rated_capacity_ah
    ways.append(plant.extremes.most_a / (rated * _tier(site, "discharge_current_c", "max", Tier.SAFETY)))
    ways.append(-plant.extremes.least_a / (rated * _tier(site, "charge_current_c", "max", Tier.SAFETY)))
    return _by_string(site, np.maximum.reduce(ways))


def rig_v(scene: Scene, plant: WatchedPlant, now: SlotCommand) -> tuple[FloatArray, FloatArray]:
    """(S,) voltage that stands at the converter (-inf: none), and its distance from the nearer end.

    The distance is a share of the window's span, and counts where the converter runs.
    """
    spec = [s.converter for s in scene.site.strings]
    low, high = np.array([c.voltage_min_v for c in spec]), np.array([c.voltage_max_v for c in spec])
    volts = plant.true.string_voltage_v
    runs = now.contactor & (now.mode != int(ConverterMode.OFF))
    inside = np.where(runs, np.minimum(volts - low, high - volts) / (high - low), np.inf)
    return np.where(now.contactor, volts, -np.inf), inside


def inside_share(scene: Scene, plant: WatchedPlant, plan: SlotCommand) -> FloatArray:
    """(S,) smallest distance to any limit of full knowledge, as a share; negative: passed."""
    site, known = scene.site, scene.true_envelope
    shares = []
    for quantity, low_v, high_v in (
        ("cell_voltage_v", plant.extremes.lowest_moving_v, plant.extremes.highest_moving_v),
        ("temperature_degc", plant.extremes.coldest_degc, plant.extremes.hottest_degc),
    ):
        low = _tier(site, quantity, "min", Tier.OPERATING)
        high = _tier(site, quantity, "max", Tier.OPERATING)
        shares.append(np.minimum(low_v - low, high - high_v) / (high - low))
    of = site.topology.string_of
    limit = plan.current_limit_a[of]
    runs = plan.contactor & (plan.mode != int(ConverterMode.OFF))
    free = plan.mode == int(ConverterMode.BUS_VOLTAGE)
    out, into = (runs & ((plan.power_w > 0.0) | free))[of], (runs & ((plan.power_w < 0.0) | free))[of]
    for asked, allowed in (
        (np.where(plan.inserted & out, limit, 0.0), known.discharge_now_a),
        (np.where(plan.inserted & into, limit, 0.0), known.charge_now_a),
        (np.maximum(plan.trim_current_a, 0.0), known.trim_give_a),
        (np.maximum(-plan.trim_current_a, 0.0), known.trim_take_a),
    ):
        shares.append(np.where(asked > 0.0, 1.0 - asked / np.maximum(allowed, 1e-9), 1.0))
    shares.append(np.where(plan.inserted & (known.insertion == 1), -1.0, 1.0))
    module = -_by_string(site, -np.minimum.reduce(shares))
    rating_w = np.array([s.converter.power_rating_w for s in site.strings])
    rating_a = np.array([s.converter.current_rating_a for s in site.strings])
    inside: FloatArray = np.minimum.reduce(
        [
            module,
            1.0 - np.abs(plan.power_w) / rating_w,
            1.0 - plan.current_limit_a / rating_a,
            _trim_inside(scene, plant, plan),
        ]
    )
    return inside


def _trim_inside(scene: Scene, plant: WatchedPlant, plan: SlotCommand) -> FloatArray:
    """(S,) how far the trims asked are from the imbalance that verify allows (10 % and 5 W)."""
    topology = scene.site.topology
    watts = plant.true.module_voltage_v * plan.trim_current_a
    efficiency = np.array([m.trim_efficiency_frac for m in scene.site.modules])
    given = topology.sum_by_string(np.maximum(watts, 0.0) * efficiency)
    taken = topology.sum_by_string(np.maximum(-watts, 0.0))
    return 1.0 - np.abs(given - taken) / (0.10 * np.maximum(given, taken) + 5.0)
