"""Plan and proof together: branch and bound over string currents.

A string's best cost is not convex in its power: where its current passes a module's limit that module is out
at once. The Lagrangian dual in site power (`optimizer/bound.py`) only sees the convex hull of that curve, so
with few strings it may lie far below any plan. The search therefore splits the range of one string's current
where the two prices beside the best one disagree, gives every part a price of its own,

    bound = min over parts, max over price:  price*P + sum over strings of (least priced cost in its range)

and tries the currents that hold the bound as a plan. It ends when bound and plan meet, or when its budget of
string evaluations is used up; whatever it has by then is a true bound and a real plan.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from optimizer.bound import Column, PricedStrings
from optimizer.model import BALANCE_STIFFNESS, Model
from optimizer.solution import Solution, cost_of
from reconf.arrays import FloatArray

MEET_FRAC = 1e-2
"""Plan and bound meet when they are this close, as a share of the plan's losses."""
SMALL_SITE_MODULES, SMALL_SITE_WORK = 400, 10_000
"""Up to so many modules, string bounds times modules of a string: 0.05 to 0.25 s on one x86 core."""
LARGE_SITE_MODULES, LARGE_SITE_WORK = 20_000, 4_000
ROOT_PRICES = 10
PART_PRICES = 6
PRICE_STEP = 0.02
"""First step from a price whose answer gives too little or too much power [W/W]."""
SAME_CURRENT_FRAC = 0.005
"""Currents closer than this are no reason to split a range."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the search ended with."""

    solution: Solution
    bound_w: float
    evaluations: int
    """String bounds that were computed."""
    parts: int
    """Ranges of currents that were looked at."""


@dataclass(slots=True)
class Part:
    """A range of currents per string, with the prices it was asked at, ascending."""

    low_a: FloatArray
    top_a: FloatArray
    columns: list[Column] = field(default_factory=list)
    floor_w: float = -np.inf
    """Bound of the part it was cut from."""

    @property
    def bound_w(self) -> float:
        """The best bound over its prices."""
        return max((c.bound_w for c in self.columns), default=self.floor_w)

    @property
    def best(self) -> Column:
        """The column that holds the bound."""
        return max(self.columns, key=lambda c: c.bound_w)

    def around(self) -> tuple[Column | None, Column | None]:
        """The columns beside the best price: the last that gives too little and the first that does not."""
        short = [c for c in self.columns if c.surplus_w < 0.0]
        enough = [c for c in self.columns if c.surplus_w >= 0.0]
        return (short[-1] if short else None), (enough[0] if enough else None)


Improve = Callable[[Column, Solution], Solution]
"""A plan made of what the strings answered to one price, begun from an earlier plan."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may spend; counted, not timed, so that the same question has the same answer."""

    evaluations: int
    """String bounds."""
    parts: int
    """Ranges of currents."""
    tries: int
    """Plans made of a part's currents."""


def budget_for(model: Model) -> Budget:
    """What fits into an interval: plenty for a small site; a large one is nearly convex by its number."""
    per_string = max(model.n_modules // model.n_strings, 1)
    if model.n_modules <= SMALL_SITE_MODULES:
        return Budget(min(SMALL_SITE_WORK // per_string, 400), 200, 12)
    if model.n_modules <= LARGE_SITE_MODULES:
        return Budget(max(LARGE_SITE_WORK // per_string, model.n_strings), 12, 2)
    return Budget(model.n_strings, 0, 0)


def search(
    model: Model, solution: Solution, improve: Improve, budget: Budget, strings: PricedStrings | None = None
) -> Found:
    """Bound of the whole cost, and the best plan met on the way.

    Args:
        model: the interval.
        solution: a plan to begin with.
        improve: makes a plan of a column.
        budget: what may be spent.
        strings: of `model`, if they are there already.
    """
    return _Search(model, solution, improve, budget, strings or PricedStrings(model)).run()


class _Search:
    """One run of the search; see the module docstring."""

    def __init__(
        self, model: Model, solution: Solution, improve: Improve, budget: Budget, strings: PricedStrings
    ) -> None:
        self._model, self._strings, self._improve = model, strings, improve
        self._budget = budget
        self._best = solution
        self._accept(solution)
        self._parts = 0
        self._tried: list[FloatArray] = []

    def run(self) -> Found:
        """Split the part with the lowest bound until it meets the plan."""
        root = Part(self._strings.low_a.copy(), np.maximum(self._strings.top_a, self._best.current_a))
        self._ask(root, self._strings.common_price(self._best))
        self._maximise(root, ROOT_PRICES)
        if root.bound_w < self._goal():
            self._try(root)
        queue: list[tuple[float, int, Part]] = [(root.bound_w, 0, root)]
        closed = np.inf
        while queue:
            bound, _, part = queue[0]
            spent = self._spent() or self._parts >= self._budget.parts
            if min(bound, closed) >= self._goal() or spent:
                break
            heapq.heappop(queue)
            self._try(part)
            children = self._split(part)
            if not children:
                closed = min(closed, bound)
            for child in children:
                self._parts += 1
                heapq.heappush(queue, (child.bound_w, self._parts, child))
        lowest = min(closed, queue[0][0] if queue else np.inf)
        return Found(self._best, lowest, self._strings.evaluations, self._parts + 1)

    def _spent(self) -> bool:
        return self._strings.evaluations >= self._budget.evaluations

    def _accept(self, solution: Solution) -> None:
        cost = cost_of(self._model, solution)
        self._best, self._cost, self._loss = solution, cost.total_w, cost.loss_w
        self._strings.aim(solution)

    def _goal(self) -> float:
        """Bound at which the search is done."""
        return self._cost - MEET_FRAC * self._loss

    def _try(self, part: Part) -> None:
        """The currents that hold a part's bound as a plan; at both prices beside the best one."""
        for column in part.around():
            if column is None or len(self._tried) >= self._budget.tries:
                continue
            if any(_alike(column.current_a, other).all() for other in self._tried):
                continue
            self._tried.append(column.current_a)
            found = self._improve(column, self._best)
            if cost_of(self._model, found).total_w < self._cost:
                self._accept(found)

    def _split(self, part: Part) -> list[Part]:
        """Two parts that differ in one string's range; none where the prices agree on every current."""
        short, enough = part.around()
        if short is None or enough is None:
            return []
        apart = np.where(_alike(short.current_a, enough.current_a), 0.0, np.abs(short.bus_w - enough.bus_w))
        if not apart.any():
            return []
        s = int(apart.argmax())
        ends = sorted((float(short.current_a[s]), float(enough.current_a[s])))
        at = self._strings.split_at(s, ends[0], ends[1])
        if not part.low_a[s] < at < part.top_a[s]:
            return []
        lower, upper = part.top_a.copy(), part.low_a.copy()
        lower[s], upper[s] = at, at
        children = [self._child(part, part.low_a, lower, s), self._child(part, upper, part.top_a, s)]
        return [c for c in children if c is not None]

    def _child(self, parent: Part, low_a: FloatArray, top_a: FloatArray, s: int) -> Part | None:
        """Part with another range of string `s`; what the parent knows of the others stands."""
        child = Part(low_a, top_a, floor_w=parent.bound_w)
        for column in parent.columns:
            value, bus, current = self._strings.least(s, float(low_a[s]), float(top_a[s]), column.price)
            values, buses, currents = column.values_w.copy(), column.bus_w.copy(), column.current_a.copy()
            values[s], buses[s], currents[s] = value, bus, current
            child.columns.append(self._column(column.price, values, buses, currents))
        self._maximise(child, PART_PRICES)
        return child

    def _column(self, price: float, values: FloatArray, bus: FloatArray, current: FloatArray) -> Column:
        wanted = self._model.power_w
        bound = price * wanted + float(values.sum()) + self._strings.idle_w
        return Column(price, bound, float(bus.sum()) - wanted, values, bus, current)

    def _ask(self, part: Part, price: float) -> None:
        """Add the answers to one more price."""
        rows = [
            self._strings.least(s, float(part.low_a[s]), float(part.top_a[s]), price)
            for s in range(self._model.n_strings)
        ]
        values, bus, current = (np.array(x) for x in zip(*rows, strict=True))
        part.columns.append(self._column(price, values, bus, current))
        part.columns.sort(key=lambda c: c.price)

    def _maximise(self, part: Part, most: int) -> None:
        """Ask more prices while they can lift the bound (cutting planes: where two tangents meet)."""
        for _ in range(most):
            if part.bound_w >= self._goal() or self._spent():
                return
            price = self._next_price(part)
            if price is None:
                return
            self._ask(part, price)

    def _next_price(self, part: Part) -> float | None:
        short, enough = part.around()
        ceiling = self._model.unserved_price
        if short is None or enough is None:
            far = part.columns[-1] if enough is None else part.columns[0]
            # relative shares move by 1/BALANCE_STIFFNESS of the price
            step = 1.5 * BALANCE_STIFFNESS * abs(far.surplus_w) / max(self._model.power_w, 1.0)
            step = max(step, 0.5 * abs(part.columns[-1].price - part.columns[0].price), PRICE_STEP)
            price = float(np.clip(far.price + (step if enough is None else -step), -ceiling, ceiling))
            return None if price == far.price else price
        width = enough.price - short.price
        fall = enough.surplus_w - short.surplus_w
        if width <= 1e-6 or fall <= 0.0:
            return None
        # the bound's slope in the price is what is missing: P - sum y
        meet = (
            enough.bound_w - short.bound_w + enough.surplus_w * enough.price - short.surplus_w * short.price
        )
        meet /= fall
        top = short.bound_w - short.surplus_w * (meet - short.price)
        if not short.price < meet < enough.price or top - part.bound_w <= 0.2 * MEET_FRAC * self._loss:
            return None
        return float(np.clip(meet, short.price + 0.05 * width, enough.price - 0.05 * width))


def _alike(one_a: FloatArray, other_a: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Currents that are the same but for the width of a bracket."""
    same: np.ndarray[tuple[int], np.dtype[np.bool_]] = np.abs(
        one_a - other_a
    ) <= SAME_CURRENT_FRAC * np.maximum(np.maximum(one_a, other_a), 1.0)
    return same
