"""Work of `reconf size`: uniform stock by enumeration, mixed stock by a genetic algorithm (pymoo)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.binning_plot import INK, new_figure, plain, save
from reconf.arrays import FloatArray, IntArray
from reconf.binning.assign import compatible
from reconf.binning.energy import string_energy_wh
from reconf.binning.lot import Lot
from reconf.errors import DataFileError, ParameterError
from reconf.sizing.pack import Need, Overheads

UNITS_WH = {"wh": 1.0, "kwh": 1e3, "mwh": 1e6}


def parse_energy_wh(text: str) -> float:
    """`50kWh` in Wh.

    Raises:
        DataFileError: not a number with Wh, kWh or MWh.
    """
    lower = text.strip().lower().replace(" ", "")
    for unit in ("kwh", "mwh", "wh"):
        if lower.endswith(unit):
            try:
                value = float(lower.removesuffix(unit)) * UNITS_WH[unit]
            except ValueError:
                break
            if value > 0:
                return value
    raise DataFileError(f"--energy {text!r}: say a number with its unit, such as 50kWh")


class MixedStock:
    """Strings of each kind of a mixed lot: energy, mass and cost of a choice.

    A choice is, for each class of compatible modules, (strings, positions); the best modules go first and
    are cut in the order of their capacity, time-shared with the need's spares.
    """

    def __init__(self, lot: Lot, need: Need, over: Overheads, kg_per_kwh: float, cost_per_kwh: float) -> None:
        self.lot, self.need, self.over = lot, need, over
        self.classes = [m[np.argsort(-lot.capacity_ah[m], kind="stable")] for m in compatible(lot)]
        volts = np.array([lot.voltage_v[m].mean() for m in self.classes])
        most_v = need.voltage_max_v or 1.25 * need.voltage_v
        self.least = np.ceil(need.voltage_v / volts).astype(np.int64) + need.spares
        self.most = np.maximum(np.floor(most_v / volts).astype(np.int64), self.least)
        self.strings_most = np.array(
            [len(m) // n for m, n in zip(self.classes, self.least, strict=True)], dtype=np.int64
        )
        rated_kwh = lot.rated_capacity_ah * lot.voltage_v / 1e3
        self.mass_kg = rated_kwh * kg_per_kwh
        self.cost = lot.capacity_ah * lot.voltage_v / 1e3 * cost_per_kwh
        if not self.strings_most.any():
            raise ParameterError(
                f"no kind fills a string of {need.voltage_v:g} V with {need.spares} spares; "
                f"strings need {', '.join(map(str, self.least))} modules of one kind"
            )

    def figures(self, choice: IntArray) -> tuple[float, float, float]:
        """(energy [Wh], mass [kg], cost) of a choice (2·classes,): strings, then positions of each class.

        A choice that asks for more modules than there are gives what whole strings there are.
        """
        n = len(self.classes)
        energy = mass = cost = 0.0
        for members, strings, length in zip(self.classes, choice[:n], choice[n:], strict=True):
            count = min(int(strings), len(members) // int(length))
            taken = members[: count * int(length)].reshape(count, int(length))
            if count == 0:
                continue
            wh = float(
                string_energy_wh(
                    self.lot.capacity_ah[taken], self.lot.voltage_v[taken], self.need.spares
                ).sum()
            )
            energy += wh
            mass += float(self.mass_kg[taken].sum()) * (1.0 + self.over.mass_frac)
            power_kw = (
                (self.need.power_w or self.need.energy_wh / 3.0) * wh / max(self.need.energy_wh, wh) / 1e3
            )
            cost += float(self.cost[taken].sum()) + taken.size * self.over.cost_per_unit
            cost += power_kw * self.over.cost_per_kw
        return energy, mass, cost

    def pareto(self, generations: int, seed: int) -> list[dict[str, Any]]:
        """Choices none of which is beaten in cost, mass and energy at once, all with the energy asked for.

        NSGA-II (Deb et al. 2002, doi 10.1109/4235.996017).

        Raises:
            ParameterError: the whole lot does not hold the energy.
        """
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import ElementwiseProblem
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling
        from pymoo.optimize import minimize

        stock = self

        class Choice(ElementwiseProblem):  # type: ignore[misc]  # pymoo has no types
            """Least cost and mass, most energy."""

            def __init__(self) -> None:
                n = len(stock.classes)
                super().__init__(
                    n_var=2 * n, n_obj=3, n_ieq_constr=1, vtype=int,
                    xl=np.concatenate([np.zeros(n, dtype=np.int64), stock.least]),
                    xu=np.concatenate([stock.strings_most, stock.most]),
                )  # fmt: skip

            def _evaluate(self, x: IntArray, out: dict[str, Any], *_: Any, **__: Any) -> None:
                energy, mass, cost = stock.figures(x)
                out["F"] = [cost, mass, -energy]
                out["G"] = [stock.need.energy_wh - energy]

        algorithm = NSGA2(
            pop_size=60, sampling=IntegerRandomSampling(), eliminate_duplicates=True,
            crossover=SBX(prob=0.9, eta=3.0, vtype=float, repair=RoundingRepair()),
            mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        )  # fmt: skip
        algorithm.mating.n_max_iterations = 3  # a small grid soon has no new choices to draw
        result = minimize(Choice(), algorithm, ("n_gen", generations), seed=seed, verbose=False)
        if result.X is None:
            most = self.figures(np.concatenate([self.strings_most, self.least]))[0]
            raise ParameterError(
                f"the lot gives {most / 1e3:.1f} kWh at this voltage, not {self.need.energy_wh / 1e3:g}"
            )
        return self._listed(np.atleast_2d(result.X), np.atleast_2d(result.F))

    def _listed(self, choices: IntArray, values: FloatArray) -> list[dict[str, Any]]:
        n = len(self.classes)
        found = {}
        for x, f in zip(choices, values, strict=True):
            strings = {self._class_name(c): f"{int(x[c])}x{int(x[n + c])}" for c in range(n) if x[c] > 0}
            found[tuple(strings.items())] = {
                "strings": strings,
                "cost": float(f[0]),
                "mass_kg": float(f[1]),
                "energy_kwh": -float(f[2]) / 1e3,
                "specific_wh_per_kg": -float(f[2]) / float(f[1]),
            }
        return sorted(found.values(), key=lambda d: d["cost"])

    def _class_name(self, number: int) -> str:
        kind = self.lot.kinds[self.lot.kind_of[self.classes[number][0]]]
        return f"{kind.chemistry.value} {kind.n_cells}s"


def draw_pareto(choices: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Energy against cost, coloured by mass."""
    figure = new_figure(7.5, 4.6)
    axes = figure.subplots()
    plain(axes, "Packs none of which is beaten in cost, energy and mass at once")
    dots = axes.scatter(
        [c["cost"] for c in choices], [c["energy_kwh"] for c in choices],
        c=[c["mass_kg"] for c in choices], cmap="viridis",
    )  # fmt: skip
    figure.colorbar(dots, ax=axes).set_label("mass [kg]", fontsize=8)
    axes.set_xlabel("cost", fontsize=8.5, color=INK)
    axes.set_ylabel("energy [kWh]", fontsize=8.5, color=INK)
    save(figure, path)
