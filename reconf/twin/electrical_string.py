"""A string against its converter (RC1) and the trim bus of a string: closed forms, all strings at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.actuation import ConverterMode
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.compiled import Engine, engine_for
from reconf.site import Site, Topology

WINDOW_RETURN_FRAC = 0.01
"""A converter that left its window works again this far inside it."""
OFF = int(ConverterMode.OFF)
"""As a number: this is looked at several times in every step."""
SLEW_TIME_S = 0.5
"""Time for a change of power by the full rating."""


@dataclass(frozen=True, slots=True)
class ConverterArrays:
    """`ConverterSpec`s of all strings, (S,)."""

    power_rating_w: FloatArray
    current_rating_a: FloatArray
    voltage_min_v: FloatArray
    voltage_max_v: FloatArray
    loss_fixed_w: FloatArray
    loss_linear_frac: FloatArray
    loss_quadratic_w_per_a2: FloatArray

    @classmethod
    def of(cls, site: Site) -> ConverterArrays:
        """Stack the converters of `site`."""
        c = [s.converter for s in site.strings]
        return cls(
            np.array([x.power_rating_w for x in c]),
            np.array([x.current_rating_a for x in c]),
            np.array([x.voltage_min_v for x in c]),
            np.array([x.voltage_max_v for x in c]),
            np.array([x.loss_fixed_w for x in c]),
            np.array([x.loss_linear_frac for x in c]),
            np.array([x.loss_quadratic_w_per_a2 for x in c]),
        )

    def loss_w(self, bus_power_w: FloatArray, current_a: FloatArray, running: BoolArray) -> FloatArray:
        """Converter loss [W]: fixed while running, per watt at the bus, per string ampere squared."""
        loss: FloatArray = (
            np.where(running, self.loss_fixed_w, 0.0)
            + self.loss_linear_frac * np.abs(bus_power_w)
            + self.loss_quadratic_w_per_a2 * current_a**2
        )
        return loss


@dataclass(frozen=True, slots=True)
class StringSolution:
    """(S,) what flows during the step."""

    current_a: FloatArray
    bus_power_w: FloatArray
    limiting: BoolArray
    outside_window: BoolArray
    running: BoolArray


def solve_strings(
    converters: ConverterArrays,
    emf_v: FloatArray,
    resistance_ohm: FloatArray,
    mode: IntArray,
    power_w: FloatArray,
    current_limit_a: FloatArray,
    closed: BoolArray,
    was_outside: BoolArray,
    power_before_w: FloatArray,
    dt_s: float,
    engine: Engine = "auto",
) -> StringSolution:
    """String current at which the converter's balance holds, within every limit of RC1.

    With V = emf - R I:  (R + k2) I² - emf I + P + k0 + k1 |P| = 0, of which the small root is taken.
    """
    if engine_for(engine) == "compiled":
        from reconf.twin import kernels_string

        c = converters
        return StringSolution(
            *kernels_string.solve_strings(
                c.power_rating_w, c.current_rating_a, c.voltage_min_v, c.voltage_max_v, c.loss_fixed_w,
                c.loss_linear_frac, c.loss_quadratic_w_per_a2, emf_v, resistance_ohm, closed & (mode != OFF),
                power_w, current_limit_a, was_outside, power_before_w, dt_s / SLEW_TIME_S, WINDOW_RETURN_FRAC,
            )
        )  # fmt: skip
    low_v, high_v = converters.voltage_min_v, converters.voltage_max_v
    margin = np.where(was_outside, WINDOW_RETURN_FRAC, 0.0)
    outside = (emf_v < low_v * (1.0 + margin)) | (emf_v > high_v * (1.0 - margin))
    running = closed & (mode != OFF)
    reach = converters.power_rating_w * (dt_s / SLEW_TIME_S)
    wanted = np.minimum(np.maximum(power_w, -converters.power_rating_w), converters.power_rating_w)
    allowed = np.minimum(np.maximum(wanted, power_before_w - reach), power_before_w + reach)
    asked = np.where(running & ~outside, allowed, 0.0)
    k2 = resistance_ohm + converters.loss_quadratic_w_per_a2
    draw = asked + converters.loss_fixed_w + converters.loss_linear_frac * np.abs(asked)
    discriminant = emf_v**2 - 4.0 * k2 * draw
    safe_k2 = np.maximum(k2, 1e-12)
    denominator = np.maximum(emf_v + np.sqrt(np.maximum(discriminant, 0.0)), 1e-9)
    current = np.where(discriminant > 0.0, 2.0 * draw / denominator, emf_v / (2.0 * safe_k2))
    limit = np.minimum(np.abs(current_limit_a), converters.current_rating_a)
    safe_r = np.maximum(resistance_ohm, 1e-12)
    top = np.minimum(limit, np.where(outside, limit, (emf_v - low_v) / safe_r))
    bottom = np.maximum(-limit, np.where(outside, -limit, (emf_v - high_v) / safe_r))
    held = np.minimum(np.maximum(current, bottom), np.maximum(top, bottom))
    unsupplied = outside & (discriminant <= 0.0)
    held = np.where(running & ~unsupplied, held, 0.0)
    changed = running & ((held != current) | (discriminant <= 0.0))
    net = (emf_v - resistance_ohm * held) * held - converters.loss_fixed_w
    net -= converters.loss_quadratic_w_per_a2 * held**2
    derated = net / np.where(net >= 0.0, 1.0 + converters.loss_linear_frac, 1.0 - converters.loss_linear_frac)
    power = np.where(changed, derated, asked)
    supplied = running & ~unsupplied
    return StringSolution(
        current_a=held,
        bus_power_w=np.where(supplied, power, 0.0),
        limiting=running & ~outside & (changed | (np.abs(power_w) > converters.power_rating_w)),
        outside_window=outside,
        running=supplied,
    )


def balance_trim(
    topology: Topology,
    setpoint_a: FloatArray,
    module_voltage_v: FloatArray,
    efficiency_frac: FloatArray,
    engine: Engine = "auto",
) -> FloatArray:
    """(M,) trim currents that flow: the larger side of each string's trim bus is scaled down uniformly.

    Sum over givers of v t eta = sum over takers of v |t|.
    """
    if not setpoint_a.any():
        return np.zeros_like(setpoint_a)
    if engine_for(engine) == "compiled":
        from reconf.twin import kernels_string

        flows: FloatArray = kernels_string.balance_trim(
            topology.start, setpoint_a, module_voltage_v, efficiency_frac
        )
        return flows
    power = setpoint_a * module_voltage_v
    given = topology.sum_by_string(np.maximum(power, 0.0) * efficiency_frac)
    taken = topology.sum_by_string(np.maximum(-power, 0.0))
    flow = np.minimum(given, taken)
    give = np.divide(flow, given, out=np.zeros_like(flow), where=given > 0.0)[topology.string_of]
    take = np.divide(flow, taken, out=np.zeros_like(flow), where=taken > 0.0)[topology.string_of]
    result: FloatArray = setpoint_a * np.where(setpoint_a > 0.0, give, take)
    return result
