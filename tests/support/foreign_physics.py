"""Cells, switches and a converter of a plant that shares no line with reconf's own twin.

Written from the hardware description alone, to find what the daemon and the twin only believe together.
Discharge is positive. Times are simulated seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# An NMC cell of another maker: 5 to 30 mV away from the cell data the daemon is given.
OCV_NMC = (
    (0.0, 3.0), (0.01, 3.2), (0.02, 3.32), (0.05, 3.455), (0.1, 3.53), (0.2, 3.61), (0.3, 3.655),
    (0.4, 3.695), (0.5, 3.745), (0.6, 3.815), (0.7, 3.9), (0.8, 3.985), (0.9, 4.08), (1.0, 4.19),
)  # fmt: skip
OCV_LFP = (
    (0.0, 2.6), (0.01, 2.85), (0.03, 3.05), (0.06, 3.16), (0.1, 3.205), (0.2, 3.255), (0.3, 3.28),
    (0.4, 3.29), (0.5, 3.295), (0.6, 3.305), (0.7, 3.325), (0.9, 3.332), (0.97, 3.35), (1.0, 3.45),
)  # fmt: skip
STEP_MAX_S = 0.1
TAU_S = 25.0
SLEW_S = 0.5
"""Full rating in this time."""


@dataclass(frozen=True)
class Design:
    """What is built, and how unequal its modules are."""

    strings: int = 1
    modules: int = 12
    """In each string."""
    cells: int = 12
    rated_ah: float = 60.0
    soh: float = 0.8
    soh_cv: float = 0.13
    soc: float = 0.95
    soc_std: float = 0.0
    r_milliohm: float = 1.4
    """Of a cell of rated capacity, before ageing."""
    r_on_ohm: float = 0.0005
    trim_a: float = 0.0
    ocv: tuple[tuple[float, float], ...] = OCV_NMC
    ocv_std_v: float = 0.0
    """Spread of the curves between modules."""
    noise: float = 1.0
    ambient_degc: float = 22.0
    window_v: tuple[float, float] = (348.0, 616.0)
    current_a: float = 60.0
    power_w: float = 20_000.0
    loss: tuple[float, float, float] = (40.0, 0.012, 0.02)
    """Fixed [W], per watt, per ampere squared."""
    bus_v: float = 800.0
    trip_v: tuple[float, float] = (2.5, 4.3)
    cut_v: float = 3.0
    """Where a module counts as empty."""


@dataclass
class Module:
    """What the switch and the trim converter of one module are told."""

    inserted: bool = False
    trim_a: float = 0.0


@dataclass
class Converter:
    """One string converter between string and bus."""

    mode: int = 0
    asked_w: float = 0.0
    limit_a: float = 0.0
    closed: bool = False
    power_w: float = 0.0
    """At the bus."""
    current_a: float = 0.0
    string_v: float = 0.0
    limiting: bool = False
    outside: bool = False
    energy_out_kwh: float = 0.0
    energy_in_kwh: float = 0.0


@dataclass
class Account:
    """What an honest judge writes down at every step."""

    string_kwh: float = 0.0
    cell_v: tuple[float, float] = (9.0, 0.0)
    """Lowest and highest terminal voltage of a cell group that carried current."""
    temperature_degc: float = -99.0
    rate_c: float = 0.0
    shorts: int = 0
    """Steps with a closed contactor over a wholly bypassed string."""
    outside: int = 0
    """Steps in which a running converter was outside its window."""
    opened_under_load: int = 0
    trips: list[str] = field(default_factory=list)
    busy_s: float = 0.0
    """Time in which a string gave power."""


class Physics:
    """All strings of a plant. `step` moves time, everything else is plain state."""

    def __init__(self, design: Design, seed: int) -> None:
        d, rng = design, np.random.default_rng(seed)
        self.design = d
        count = d.strings * d.modules
        self.string_of = np.repeat(np.arange(d.strings), d.modules)
        soh = np.clip(rng.normal(d.soh, d.soh * d.soh_cv, count), 0.5, 1.1)
        cells = (count, d.cells)
        self.capacity_ah = d.rated_ah * soh[:, None] * (1.0 + 0.005 * rng.standard_normal(cells))
        start = np.clip(d.soc + d.soc_std * rng.standard_normal(count), 0.02, 1.0)
        self.soc = np.clip(start[:, None] + 0.002 * rng.standard_normal(cells), 0.0, 1.0)
        aged = (1.0 + 2.0 * np.maximum(0.0, 1.0 - soh)) * rng.lognormal(0.0, 0.08, count)
        self.r_ohm = 1e-3 * d.r_milliohm * aged[:, None] * (1.0 + 0.02 * rng.standard_normal(cells))
        self.curve_v = d.ocv_std_v * rng.standard_normal(count)
        self.rc_v = np.zeros(cells)
        self.temperature_degc = np.full(count, d.ambient_degc) + 0.5 * rng.standard_normal(count)
        self.modules = [Module() for _ in range(count)]
        self.converters = [Converter(limit_a=d.current_a) for _ in range(d.strings)]
        self.current_a = np.zeros(count)
        """Through the cells of each module."""
        self.trim_a = np.zeros(count)
        self.cell_v = self._emf_v()
        self.passed_ah = np.zeros(count)
        self.sum_vs = np.zeros(count)
        """Module voltage over time [Vs]; with `passed_ah` what means are made of."""
        self.time_s = 0.0
        self.account = Account()
        self.first_soc = self.soc.copy()

    def _emf_v(self) -> np.ndarray:
        """Open-circuit voltage behind the slow part, per cell group [V]."""
        soc_v, ocv_v = zip(*self.design.ocv, strict=True)
        curve = np.interp(self.soc, soc_v, ocv_v)
        low = np.minimum(self.soc, 0.0) * 30.0  # below empty the voltage falls off
        high = np.maximum(self.soc - 1.0, 0.0) * 3.0
        return curve + low + high + self.curve_v[:, None] - self.rc_v

    def _r_ohm(self) -> np.ndarray:
        """Per cell group at its temperature [ohm]."""
        warm = np.exp(2200.0 * (1.0 / (self.temperature_degc + 273.15) - 1.0 / 298.15))
        return self.r_ohm * warm[:, None]

    def step(self, dt_s: float, inserted: np.ndarray) -> None:
        """`dt_s` of physics with the switches as given, (M,)."""
        emf, r = self._emf_v(), self._r_ohm()
        self.trim_a = self._trim(emf.sum(axis=1))
        string_a = np.zeros(len(self.modules))
        for s, converter in enumerate(self.converters):
            mine = self.string_of == s
            on = mine & inserted
            emf_v = float(emf[on].sum() - (self.trim_a[:, None] * r)[on].sum())
            r_ohm = float(r[on].sum() + mine.sum() * self.design.r_on_ohm)
            self._convert(converter, emf_v, r_ohm, dt_s)
            string_a[on] = converter.current_a
            if converter.closed and not on.any():
                self.account.shorts += 1
        self.current_a = string_a + self.trim_a
        self.cell_v = emf - self.current_a[:, None] * r
        self.soc -= self.current_a[:, None] * dt_s / 3600.0 / self.capacity_ah
        self.passed_ah += self.current_a * dt_s / 3600.0
        self.sum_vs += self.cell_v.sum(axis=1) * dt_s
        slow = 0.6 * r * self.current_a[:, None]
        self.rc_v += (slow - self.rc_v) * -np.expm1(-dt_s / TAU_S)
        heat_w = (r.sum(axis=1) + 0.6 * r.sum(axis=1)) * self.current_a**2
        size = self.design.cells * self.design.rated_ah
        cooling_w = 0.012 * size * (self.temperature_degc - self.design.ambient_degc)
        self.temperature_degc += dt_s * (heat_w - cooling_w) / (26.0 * size)
        self.time_s += dt_s
        self._write_down(dt_s)

    def _trim(self, module_v: np.ndarray) -> np.ndarray:
        """Trim currents that balance on each string's trim bus (M,) [A]."""
        asked = np.array([m.trim_a for m in self.modules])
        given = np.zeros_like(asked)
        for s in range(self.design.strings):
            mine = self.string_of == s
            out = float((0.92 * module_v * np.maximum(asked, 0.0))[mine].sum())
            into = float((module_v * np.maximum(-asked, 0.0))[mine].sum())
            if out <= 0.0 or into <= 0.0:
                continue
            least = min(out, into)
            share = np.where(asked > 0.0, least / out, least / into)
            given[mine] = (asked * share)[mine]
        return given

    def _convert(self, c: Converter, emf_v: float, r_ohm: float, dt_s: float) -> None:
        """Power, current and string voltage of one converter."""
        d = self.design
        fixed_w, linear, quadratic = d.loss
        low_v, high_v = d.window_v
        c.limiting = False
        running = c.closed and c.mode == 1
        margin = 0.01 if c.outside else 0.0
        at_v = emf_v - c.current_a * r_ohm
        c.outside = not low_v * (1.0 + margin) <= at_v <= high_v * (1.0 - margin)
        wanted_w = c.asked_w if running and not c.outside else 0.0
        if abs(wanted_w) > d.power_w:
            wanted_w, c.limiting = float(np.copysign(d.power_w, wanted_w)), True
        most = d.power_w * dt_s / SLEW_S
        power_w = c.power_w + float(np.clip(wanted_w - c.power_w, -most, most))
        if not running:
            power_w = 0.0
        fixed_w = fixed_w if running else 0.0

        def current(at_bus_w: float) -> float:
            """(r + q) i^2 - emf i + bus power + losses = 0, the root near zero [A]."""
            need_w, a = at_bus_w + fixed_w + linear * abs(at_bus_w), r_ohm + quadratic
            under = emf_v * emf_v - 4.0 * a * need_w
            return 2.0 * need_w / (emf_v + under**0.5) if under > 0.0 else emf_v / (2.0 * a)

        i = current(power_w) if running and emf_v > 1.0 else 0.0
        if abs(i) > c.limit_a and running:
            c.limiting = True
            a = float(np.copysign(c.limit_a, i))
            left_w = a * emf_v - a * a * (r_ohm + quadratic) - fixed_w
            power_w = left_w / (1.0 + linear) if left_w > 0.0 else left_w / (1.0 - linear)
            i = a
        c.power_w, c.current_a = power_w, i
        c.string_v = emf_v - i * r_ohm
        kwh = power_w * dt_s / 3.6e6
        c.energy_out_kwh += max(kwh, 0.0)
        c.energy_in_kwh += max(-kwh, 0.0)
        self.account.string_kwh += c.string_v * i * dt_s / 3.6e6
        if running and abs(power_w) > 1.0 and c.outside:
            self.account.outside += 1

    def _write_down(self, dt_s: float) -> None:
        a = self.account
        live = np.abs(self.current_a) > 0.5
        a.busy_s += dt_s if any(c.power_w > 1.0 for c in self.converters) else 0.0
        if live.any():
            a.cell_v = (
                min(a.cell_v[0], float(self.cell_v[live].min())),
                max(a.cell_v[1], float(self.cell_v[live].max())),
            )
            rate = np.abs(self.current_a) / self.capacity_ah.min(axis=1)
            a.rate_c = max(a.rate_c, float(rate.max()))
        a.temperature_degc = max(a.temperature_degc, float(self.temperature_degc.max()))

    def held_kwh(self, dt_s: float = 5.0) -> float:
        """What the modules would give, each alone from the first state until its first cell group is empty.

        At the mean C-rate of the discharge so far, or at C/4.
        """
        moved, hours = float(self.passed_ah.sum()), self.account.busy_s / 3600.0
        least_ah = self.capacity_ah.min(axis=1)
        rate = moved / hours / float(least_ah.sum()) if moved > 1.0 and hours > 0.0 else 0.25
        soc, i = self.first_soc.copy(), rate * least_ah[:, None]
        rc, r = np.zeros_like(soc), self._r_ohm()
        live, energy_j = np.ones(len(soc), dtype=bool), 0.0
        soc_v, ocv_v = zip(*self.design.ocv, strict=True)
        while live.any():
            v = np.interp(soc, soc_v, ocv_v) + self.curve_v[:, None] - rc - i * r
            live &= v.min(axis=1) > self.design.cut_v
            energy_j += float((v * i)[live].sum()) * dt_s
            soc -= i * dt_s / 3600.0 / self.capacity_ah
            rc += (0.6 * r * i - rc) * -np.expm1(-dt_s / TAU_S)
        return energy_j / 3.6e6
