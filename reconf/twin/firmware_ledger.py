"""What the twin knows of its own run: energies, violations, wear; the truth that a demo is judged by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reconf.arrays import FloatArray
from reconf.twin.firmware import NodeBank

SERIES_PERIOD_S = 10.0
KWH_J = 3.6e6


@dataclass(slots=True)
class Ledger:
    """Samples a `NodeBank` every `period_s` of simulated time."""

    bank: NodeBank
    period_s: float = SERIES_PERIOD_S
    series: dict[str, list[float]] = field(default_factory=dict)
    _next_s: float = 0.0

    def sample(self) -> None:
        """Note where things stand, when it is time."""
        plant = self.bank.plant
        if plant.time_s + 1e-9 < self._next_s:
            return
        self._next_s = plant.time_s + self.period_s
        soc = self.soc_frac()
        books = plant.energy
        for name, value in (
            ("time_s", plant.time_s),
            ("string_out_kwh", books.string_energy_out_kwh),
            ("string_in_kwh", books.string_energy_in_kwh),
            ("bus_out_kwh", float(books.bus_out_j.sum()) / KWH_J),
            ("bus_in_kwh", float(books.bus_in_j.sum()) / KWH_J),
            ("bus_power_w", float(plant.true.bus_power_w.sum())),
            ("string_power_w", float((plant.true.string_voltage_v * plant.true.string_current_a).sum())),
            ("power_setpoint_w", float(plant.inputs.power_setpoint_w.sum())),
            ("soc_min_frac", float(soc.min())),
            ("soc_mean_frac", float(soc.mean())),
            ("soc_max_frac", float(soc.max())),
            ("inserted", float(plant.inputs.inserted.sum())),
        ):
            self.series.setdefault(name, []).append(value)

    def soc_frac(self) -> FloatArray:
        """(M,) true SOC of every module: mean over its groups."""
        mask = self.bank.plant.bank.mask
        soc = self.bank.plant.cells.soc_frac
        mean: FloatArray = np.where(mask, soc, 0.0).sum(axis=1) / mask.sum(axis=1)
        return mean

    def report(self) -> dict[str, Any]:
        """Everything, as plain data."""
        plant, books = self.bank.plant, self.bank.plant.energy
        violations = plant.violations
        return {
            "time_s": plant.time_s,
            "string_out_kwh": books.string_energy_out_kwh,
            "string_in_kwh": books.string_energy_in_kwh,
            "bus_out_kwh": float(books.bus_out_j.sum()) / KWH_J,
            "bus_in_kwh": float(books.bus_in_j.sum()) / KWH_J,
            "cell_heat_kwh": books.cell_heat_j / KWH_J,
            "switch_loss_kwh": books.switch_loss_j / KWH_J,
            "trim_loss_kwh": books.trim_loss_j / KWH_J,
            "converter_loss_kwh": books.converter_loss_j / KWH_J,
            "chemical_out_kwh": plant.chemical_out_j / KWH_J,
            "violations": {
                "steps": violations.steps,
                "by_rule": dict(violations.by_rule),
                "worst": dict(violations.worst),
                "seconds": dict(violations.seconds),
            },
            "link_shorts": self.bank.link_shorts,
            "opened_under_load": self.bank.rc1.opened_under_load,
            "soc_frac": self.soc_frac().tolist(),
            "capacity_ah": np.where(plant.bank.mask, plant.truth.capacity_ah, np.inf).min(axis=1).tolist(),
            "soh_frac": plant.truth.soh_frac.tolist(),
            "serials": list(self.bank.site.topology.serials),
            "series": self.series,
        }
