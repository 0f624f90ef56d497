"""The readable truth: the fixed-current problem in cvxpy, built once, fed many times.

Constraints are named; parameters enter only after `optimizer.fixed.checked`; DPP is enforced up to the size
where its compiled form stays small. PIQP answers first, Clarabel is the second opinion.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cvxpy
import numpy as np
from scipy.sparse import csr_matrix

from optimizer.fixed import Fixed, FixedSolution, objective, unserved_w
from reconf.arrays import FloatArray
from reconf.errors import SolverError

cp: Any = cvxpy
"""cvxpy re-exports its atoms in a way type checkers do not see."""
DPP_MAX_MODULES = 2000
"""Above this, cvxpy's parametrised form grows with the square of the size (a dense quadratic map)."""


class ReferenceProblem:
    """One site's problem for any parameters.

    Every product of two parameters is formed outside: the weighted squares enter as
    |sqrt(mu)*q - sqrt(mu)*c|^2 and the loads as `load == A(v)*q` with A's pattern fixed.
    """

    def __init__(
        self, start: np.ndarray[tuple[int], np.dtype[np.int64]], enforce_dpp: bool | None = None
    ) -> None:
        m, s = int(start[-1]), int(start.size - 1)
        self._m, self._s = m, s
        self.dpp = m <= DPP_MAX_MODULES if enforce_dpp is None else enforce_dpp
        of = np.repeat(np.arange(s), np.diff(start))
        self._member = csr_matrix((np.ones(m), (of, np.arange(m))), shape=(s, m))
        self._q = cp.Variable(m, name="through_current_a")
        self._unserved = cp.Variable(nonneg=True, name="unserved_w")
        self._surplus = cp.Variable(nonneg=True, name="surplus_w")
        p = self._parameters = {
            "v": cp.Parameter(m, name="v", pos=True),
            "a": cp.Parameter(m, name="a"),
            "root_mu": cp.Parameter(m, name="root_mu", pos=True),
            "root_mu_c": cp.Parameter(m, name="root_mu_c"),
            "lo": cp.Parameter(m, name="lo"),
            "hi": cp.Parameter(m, name="hi"),
            "gv": cp.Parameter(m, name="gv"),
            "zlo": cp.Parameter(s, name="zlo"),
            "zhi": cp.Parameter(s, name="zhi"),
            "power": cp.Parameter(name="power"),
            "rho": cp.Parameter(name="rho", nonneg=True),
        }
        load = self._member @ cp.multiply(p["v"], self._q)
        self.constraints = {
            "module_min": self._q >= p["lo"],
            "module_max": self._q <= p["hi"],
            "window_min": load >= p["zlo"],
            "window_max": load <= p["zhi"],
            "site_power": p["gv"] @ self._q + self._unserved - self._surplus == p["power"],
        }
        cost = p["a"] @ self._q + 0.5 * cp.sum_squares(cp.multiply(p["root_mu"], self._q) - p["root_mu_c"])
        self.problem = cp.Problem(
            cp.Minimize(cost + p["rho"] * (self._unserved + self._surplus)), list(self.constraints.values())
        )
        if not self.problem.is_dcp(dpp=True):
            raise SolverError("the reference problem lost its parametrised form (DPP)")

    def feed(self, fixed: Fixed) -> None:
        """Write all parameters; `fixed` comes from `optimizer.fixed.checked`."""
        root = np.sqrt(fixed.mu)
        values: dict[str, FloatArray | float] = {
            "v": fixed.v,
            "a": fixed.a,
            "root_mu": root,
            "root_mu_c": root * fixed.c,
            "lo": fixed.lo,
            "hi": fixed.hi,
            "gv": fixed.g[fixed.string_of] * fixed.v,
            "zlo": fixed.zlo,
            "zhi": fixed.zhi,
            "power": fixed.power_w + float(fixed.k.sum()),
            "rho": fixed.rho,
        }
        for name, value in values.items():
            self._parameters[name].value = value

    def solve(self, fixed: Fixed, solver: str = "") -> FixedSolution:
        """Answer of PIQP, or of Clarabel where PIQP has none (or the one asked for).

        Raises:
            SolverError: neither gave an answer.
        """
        self.feed(fixed)
        for name in (solver,) if solver else ("PIQP", "CLARABEL"):
            if self._try(name) and self._q.value is not None:
                return self._answer(fixed)
        raise SolverError(f"no solver answered the reference problem (status {self.problem.status})")

    def _try(self, solver: str) -> bool:
        options = TOLERANCES[solver]
        with warnings.catch_warnings():
            # cvxpy warns about "inaccurate" through warnings; the status says it as well
            warnings.simplefilter("ignore")
            try:
                self.problem.solve(solver=solver, enforce_dpp=self.dpp, ignore_dpp=not self.dpp, **options)
            except cp.error.SolverError:
                return False
        return bool(self.problem.status == cp.OPTIMAL)

    def _answer(self, fixed: Fixed) -> FixedSolution:
        q = np.asarray(self._q.value, dtype=np.float64)
        dual = self.constraints["site_power"].dual_value
        price = -float(np.asarray(dual).ravel()[0])
        window = np.asarray(self.constraints["window_min"].dual_value) - np.asarray(
            self.constraints["window_max"].dual_value
        )
        return FixedSolution(q, price, fixed.g * price + window, unserved_w(fixed, q), objective(fixed, q))


@lru_cache(maxsize=2)
def reference_for(start: tuple[int, ...]) -> ReferenceProblem:
    """The problem of a site whose strings begin at `start`: compiled once per process, fed many times."""
    return ReferenceProblem(np.array(start, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """Two solvers on the same data."""

    first: FixedSolution
    second: FixedSolution

    @property
    def difference(self) -> float:
        """Relative difference of the costs."""
        scale = max(abs(self.first.cost), abs(self.second.cost), 1e-9)
        return abs(self.first.cost - self.second.cost) / scale


def second_opinion(problem: ReferenceProblem, fixed: Fixed) -> SecondOpinion:
    """PIQP and Clarabel on `fixed`."""
    return SecondOpinion(problem.solve(fixed, "PIQP"), problem.solve(fixed, "CLARABEL"))


TOLERANCES: dict[str, dict[str, float | int]] = {
    "PIQP": {"eps_abs": 1e-9, "eps_rel": 1e-10, "max_iter": 400},
    "CLARABEL": {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-10, "tol_feas": 1e-10, "max_iter": 400},
}
"""Tighter than the defaults: costs are to agree to 1e-6."""
