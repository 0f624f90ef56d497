"""What the filter remembers from tick to tick, and what of it goes to disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.estimation.constants import Constants
from reconf.estimation.health import Trend
from reconf.estimation.integrity_state import IntegrityState
from reconf.estimation.span import Span
from reconf.estimation.state import Finding


@dataclass(frozen=True, slots=True)
class GroupState:
    """Charge, capacity and OCV error of each cell group with their covariance. All (M, C)."""

    charge_ah: FloatArray
    """Charge above SOC 0."""
    capacity_ah: FloatArray
    ocv_error_v: FloatArray
    """Slowly varying error of the OCV curve at the present SOC."""
    var_rr: FloatArray
    var_rq: FloatArray
    var_re: FloatArray
    var_qq: FloatArray
    var_qe: FloatArray
    var_ee: FloatArray

    @property
    def soc_frac(self) -> FloatArray:
        """SOC of each group."""
        soc: FloatArray = self.charge_ah / self.capacity_ah
        return soc

    def stacked(self) -> FloatArray:
        """(9, M, C) copy of all fields in their order."""
        fields = (self.charge_ah, self.capacity_ah, self.ocv_error_v, self.var_rr, self.var_rq, self.var_re)
        block: FloatArray = np.array((*fields, self.var_qq, self.var_qe, self.var_ee))
        return block

    def soc_std_frac(self) -> FloatArray:
        """One sigma of `soc_frac`: gradient (1, -z)/Q of r/Q."""
        z = self.soc_frac
        variance = self.var_rr - 2.0 * z * self.var_rq + z * z * self.var_qq
        std: FloatArray = np.sqrt(np.maximum(variance, 1e-12)) / self.capacity_ah
        return std


@dataclass(frozen=True, slots=True)
class ResistanceState:
    """Resistance scale of each group and the last steady sample before a step."""

    scale: FloatArray
    """(M, C) over the new cell model at the same SOC and temperature."""
    var: FloatArray
    """(M, C)"""
    ref_voltage_v: FloatArray
    """(M, C) NaN where there is none."""
    ref_drop_v: FloatArray
    """(M, C) modelled polarisation at scale 1 then."""
    ref_slow_v: FloatArray
    """(M,) its RC part."""
    ref_ocv_v: FloatArray
    """(M, C)"""
    ref_current_a: FloatArray
    """(M,)"""
    ref_age_s: FloatArray
    """(M,)"""


@dataclass(frozen=True, slots=True)
class ChargeState:
    """Current sensing and charge counting. All (M,)."""

    current_a: FloatArray
    """Best current of the last tick."""
    bias_a: FloatArray
    bias_var: FloatArray
    gain_frac: FloatArray
    """Gain of the module's sensor over the consensus of its string, less one."""
    gain_var: FloatArray
    counter_ah: FloatArray
    """Last good CHARGE_COUNTER, NaN before the first."""
    counted_ah: FloatArray
    """Charge counted by other means since then."""
    counted_s: FloatArray
    """Time since then."""
    uptime_s: IntArray
    insert_count: IntArray
    quiet_s: FloatArray
    """How long no current can have flowed (bypassed, no trim)."""
    load_a: FloatArray
    """Discharge current expected while inserted."""
    load_mean_a: FloatArray
    """The same averaged over inserted and bypassed time."""


@dataclass(frozen=True, slots=True)
class CircuitState:
    """Polarisation of the reference cell (scale 1) and the two thermal nodes. All (M,)."""

    v1_v: FloatArray
    v2_v: FloatArray
    hysteresis: FloatArray
    """Plett's h, -1 (after discharge) .. 1 (after charge)."""
    core_degc: FloatArray
    surface_degc: FloatArray
    unknown_v: FloatArray
    """One sigma of polarisation from before the start, at scale 1, fading with the slow RC pair."""


@dataclass(frozen=True, slots=True)
class AnomalyState:
    """Memories of `reconf.estimation.anomaly`."""

    elapsed_s: float
    watched_s: FloatArray
    """(M,) time in which charges could be compared."""
    fast_ah: FloatArray
    """(M, C) distance of each group's charge from its module's median, memory of an hour."""
    slow_ah: FloatArray
    """(M, C) the same, memory of two days."""
    leak_a: FloatArray
    """(M, C) charge lost against the others, 0 until enough was seen."""
    rested_s: FloatArray
    """(M,) length of the present rest."""
    began_ah: FloatArray
    """(M, C) the distances at the beginning of the present rest."""
    now_ah: FloatArray
    """(M, C) the distances in it, memory of minutes."""
    began_median_ah: FloatArray
    """(M,) the median charge at the beginning of the present rest."""
    fast_median_ah: FloatArray
    """(M,) the median charge, memory of an hour."""
    slow_median_ah: FloatArray
    """(M,) the same, memory of two days."""
    findings: tuple[Finding, ...] = ()

    @classmethod
    def start(cls, shape: tuple[int, int]) -> AnomalyState:
        """Nothing seen."""
        none, each = np.zeros(shape[0]), np.zeros(shape)
        return cls(
            0.0, none, each, each.copy(), each.copy(), none.copy(), each.copy(), each.copy(),
            none.copy(), none.copy(), none.copy(),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SavedModule:
    """A module's knowledge as plain numbers for the store and the passport."""

    serial: str
    time_s: float
    charge_ah: tuple[float, ...]
    """Per cell group, as the next four."""
    capacity_ah: tuple[float, ...]
    var_rr: tuple[float, ...]
    var_rq: tuple[float, ...]
    var_qq: tuple[float, ...]
    resistance_scale: tuple[float, ...]
    resistance_var: tuple[float, ...]
    hysteresis: float
    temperature_degc: float
    bias_a: float
    bias_var: float
    gain_frac: float
    gain_var: float
    counter_ah: float | None
    uptime_s: int
    load_a: float
    load_mean_a: float
    ratio_scale: float
    """Long-term resistance scale of the module, against which temperatures are checked."""
    ratio_var: float
    untrue: int = 0
    """`reconf.estimation.integrity.Untrue` bits."""
    untrue_cells: tuple[int, ...] = ()
    v1_v: float = 0.0
    v2_v: float = 0.0
    unknown_v: float = 0.0
    """Polarisation at scale 1 and what of it was unknown, as in `CircuitState`."""
    below_ah: float = 0.0
    above_ah: float = 0.0
    """Charge visited lately, as in `Span`."""
    pair: tuple[float, ...] = ()
    """As in `Pair`; empty before the first operation."""
    trend: tuple[float, ...] = ()
    """As in `Trend`; empty before the first operation."""
    findings: tuple[tuple[str, str, float, str], ...] = ()
    """(subject, test, since_s, evidence) of each latched finding."""

    def to_json(self) -> dict[str, Any]:
        """Plain dict of numbers, lists and strings."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SavedModule:
        """Inverse of `to_json`; unknown keys are an error, so that a changed store is noticed."""
        values: dict[str, Any] = {k: _tuples(v) for k, v in data.items()}
        return cls(**values)


def _tuples(value: Any) -> Any:
    """Lists of lists, as JSON has them, as tuples of tuples."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class FilterState:
    """Everything the filter carries from one tick to the next."""

    constants: Constants
    serials: tuple[str, ...]
    time_s: float
    groups: GroupState
    span: Span
    resistance: ResistanceState
    charge: ChargeState
    circuit: CircuitState
    integrity: IntegrityState
    anomaly: AnomalyState
    trend: Trend
    cut_soc_frac: FloatArray
    """(M,) SOC of the weakest group at cut-off under the expected load."""
    unheard_s: FloatArray
    """(M,) time since the last usable voltage."""
    started: BoolArray
    """(M,) a voltage has been seen since power-up."""

    def saved(self) -> dict[str, SavedModule]:
        """What a restart needs, by serial."""
        return {serial: self._saved_one(i, serial) for i, serial in enumerate(self.serials)}

    def _saved_one(self, i: int, serial: str) -> SavedModule:
        n = int(self.constants.bank.n_cells[i])

        def row(values: FloatArray) -> tuple[float, ...]:
            return tuple(float(x) for x in values[i, :n])

        groups, charge = self.groups, self.charge
        counter = float(charge.counter_ah[i])
        return SavedModule(
            serial=serial,
            time_s=self.time_s,
            charge_ah=row(groups.charge_ah),
            capacity_ah=row(groups.capacity_ah),
            var_rr=row(groups.var_rr),
            var_rq=row(groups.var_rq),
            var_qq=row(groups.var_qq),
            resistance_scale=row(self.resistance.scale),
            resistance_var=row(self.resistance.var),
            hysteresis=float(self.circuit.hysteresis[i]),
            temperature_degc=float(self.circuit.core_degc[i]),
            bias_a=float(charge.bias_a[i]),
            bias_var=float(charge.bias_var[i]),
            gain_frac=float(charge.gain_frac[i]),
            gain_var=float(charge.gain_var[i]),
            counter_ah=None if np.isnan(counter) else counter,
            uptime_s=int(charge.uptime_s[i]),
            load_a=float(charge.load_a[i]),
            load_mean_a=float(charge.load_mean_a[i]),
            ratio_scale=float(self.integrity.ratio_scale[i]),
            ratio_var=float(self.integrity.ratio_var[i]),
            v1_v=float(self.circuit.v1_v[i]),
            v2_v=float(self.circuit.v2_v[i]),
            unknown_v=float(self.circuit.unknown_v[i]),
            below_ah=float(self.span.below_ah[i]),
            above_ah=float(self.span.above_ah[i]),
            pair=self.integrity.pair.of(i),
            trend=self.trend.of(i),
            untrue=int(self.integrity.untrue[i]),
            untrue_cells=tuple(int(k) for k in np.flatnonzero(self.integrity.untrue_cells[i])),
            findings=tuple(
                (f.subject, f.test, f.since_s, f.evidence)
                for f in self.integrity.findings + self.anomaly.findings
                if f.serial == serial
            ),
        )
