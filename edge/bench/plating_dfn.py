"""Charges of PyBaMM's cells: under a given profile, and with the anode held at a potential.

PyBaMM: Sulzer et al. 2021, doi:10.5334/jors.309; needs the test extra.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge.plating_follow import HIGHEST_RATE_PER_H
from reconf.arrays import FloatArray
from reconf.electrochem.parameters import REFERENCE_K, load_anode_set

ANODE_V: Final = "Negative electrode surface potential difference at separator interface [V]"
PARTICLE_POINTS: Final = 60
FINE_PARTICLE_POINTS: Final = 90
"""Where the diffusivity varies a hundredfold and more with stoichiometry: coarse shells there add 5 to 15 mV
of overpotential that no finer mesh shows (O'Regan 2022 at 263 K with 60, 120 and 200 shells: 36.7, 42.2 and
42.6 mV)."""
WIDELY_VARYING: Final = 100.0
SHARPNESS_PER_V: Final = 2000.0
"""Of the change from the highest rate to holding the potential."""
CAP_V_PER_RATE: Final = 0.1


@dataclass(frozen=True, slots=True)
class CellRun:
    """A charge of one cell; rows are samples of time."""

    soc_frac: FloatArray
    rate_per_h: FloatArray
    anode_v: FloatArray


def under_profile(
    name: str, kind: str, temperature_k: float, time_s: FloatArray, rate_per_h: FloatArray, soc_frac: float
) -> CellRun:
    """Charge from rest at `soc_frac` with rates given over time; `kind` is DFN or SPMe."""
    import pybamm

    cell = _Cell(name, temperature_k, soc_frac)
    current = pybamm.Interpolant(time_s, -rate_per_h * cell.charge_ah, pybamm.t, interpolator="linear")
    cell.values["Current function [A]"] = current
    return cell.run(getattr(pybamm.lithium_ion, kind)(), time_s, _points(name))


def _points(name: str) -> int:
    """Shells of the anode's particles."""
    log_diffusivity = load_anode_set(name).log_diffusivity
    wide = float(np.ptp(log_diffusivity)) > np.log(WIDELY_VARYING)
    return FINE_PARTICLE_POINTS if wide else PARTICLE_POINTS


def held(name: str, temperature_k: float, anode_v: float, soc_frac: float, end_soc_frac: float) -> CellRun:
    """Charge a DFN with what keeps the anode at `anode_v`, and at most the highest rate of the guard."""
    import pybamm

    cell = _Cell(name, temperature_k, soc_frac)

    def control(variables: Any) -> Any:
        rate = -variables["Current [A]"] / cell.charge_ah
        room = CAP_V_PER_RATE * (HIGHEST_RATE_PER_H - rate)
        return pybamm.softminus(variables[ANODE_V] - anode_v, room, SHARPNESS_PER_V)

    model = pybamm.lithium_ion.DFN({"operating mode": control})
    left_ah = (end_soc_frac - soc_frac) * cell.charge_ah
    model.events.append(pybamm.Event("full", left_ah + model.variables["Discharge capacity [A.h]"]))
    return cell.run(model, np.linspace(0.0, 3e5, 3), _points(name))


class _Cell:
    """Values of a set at one temperature, started from rest."""

    def __init__(self, name: str, temperature_k: float, soc_frac: float) -> None:
        import pybamm

        self.soc_frac = soc_frac
        anode = load_anode_set(name)
        values = pybamm.ParameterValues(name)
        x_empty, _, y_full, y_empty = pybamm.lithium_ion.get_min_max_stoichiometries(values)
        parallel = values.get("Number of electrodes connected in parallel to make a cell", 1)
        area = values["Electrode height [m]"] * values["Electrode width [m]"] * parallel
        self.charge_ah = anode.charge_c_per_m2 * area / 3600.0
        x = x_empty + soc_frac * (anode.x_full - anode.x_empty)
        y = y_empty + soc_frac * (y_full - y_empty)
        values.update(
            {
                "Ambient temperature [K]": temperature_k,
                "Initial temperature [K]": temperature_k,
                "Reference temperature [K]": REFERENCE_K,
                # only the anode is asked; a cold cell may go where no real one would be charged to
                "Upper voltage cut-off [V]": 7.0,
                "Lower voltage cut-off [V]": 0.0,
                "Initial concentration in negative electrode [mol.m-3]": x * anode.concentration_max,
                "Initial concentration in positive electrode [mol.m-3]": y
                * values["Maximum concentration in positive electrode [mol.m-3]"],
            }
        )
        self.values = values

    def run(self, model: Any, time_s: FloatArray, particle_points: int) -> CellRun:
        """Solve over `time_s`, or until an event."""
        import pybamm

        points = {**model.default_var_pts, "r_n": particle_points}
        simulation = pybamm.Simulation(
            model,
            parameter_values=self.values,
            var_pts=points,
            solver=pybamm.IDAKLUSolver(rtol=1e-5, atol=1e-6),
        )
        solution = simulation.solve(time_s)
        moved_ah = -solution["Discharge capacity [A.h]"].entries
        return CellRun(
            soc_frac=self.soc_frac + moved_ah / self.charge_ah,
            rate_per_h=-solution["Current [A]"].entries / self.charge_ah,
            anode_v=solution[ANODE_V].entries,
        )
