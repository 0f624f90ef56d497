"""A plant in process, driven with rotating insertions, and the state filter beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.estimation.filter import estimate, initial_state
from reconf.estimation.memory import FilterState
from reconf.estimation.state import Estimate
from reconf.readings import SiteImage
from reconf.site import Site
from reconf.twin.observe import SensorNoise, observe
from reconf.twin.plant import Plant
from reconf.twin.plant_state import PlantInputs

NOISE = SensorNoise(cell_voltage_v=0.002, temperature_k=0.5)
RESTING = 12
"""One module in so many rests in every slot."""
SLOT_TICKS = 2


@dataclass(slots=True)
class Drive:
    """Plant and filter together; `step` moves both by one tick."""

    site: Site
    plant: Plant
    rng: np.random.Generator
    dt_s: float
    state: FilterState
    estimate: Estimate
    tick: int = 0
    spoil: Callable[[SiteImage], SiteImage] = lambda image: image
    """What an adversary does to the readings."""
    away: BoolArray | None = None
    """(M,) modules that stay bypassed."""
    cooling_frac: float = 0.0
    """How far the site's cooling is believed to have come up."""
    trim_a: FloatArray | None = None
    """(M,) trim set points."""

    @classmethod
    def start(
        cls, site: Site, plant: Plant, rng: np.random.Generator, dt_s: float, soc_error_frac: float = 0.0
    ) -> Drive:
        """Start from the rest voltage, or from a belief that is wrong by `soc_error_frac` and says so."""
        image = observe(plant, rng, 0, plant.time_s, NOISE)
        state = initial_state(site, image)
        if soc_error_frac:
            state = with_soc_error(state, plant.cells.soc_frac + soc_error_frac, abs(soc_error_frac))
        state, first = estimate(site, state, image, dt_s)
        return cls(site, plant, rng, dt_s, state, first)

    def step(self, power_w: FloatArray, *, by_remaining: bool = True) -> None:
        """One tick at `power_w` (S,) per string, discharge positive."""
        plant, topology = self.plant, self.site.topology
        inserted = plant.inputs.inserted
        if self.tick % SLOT_TICKS == 0:
            inserted = self._choose(power_w, by_remaining)
            if self.away is not None:
                inserted &= ~self.away
        s = topology.n_strings
        on = np.abs(power_w) > 0.0
        plant.apply(
            replace(
                PlantInputs.safe(topology.n_modules, s),
                inserted=inserted,
                duty_frac=np.ones(topology.n_modules),
                mode=on.astype(np.int64),
                power_setpoint_w=power_w,
                current_limit_a=np.array([x.converter.current_rating_a for x in self.site.strings]),
                contactor_closed=np.ones(s, dtype=np.bool_),
                trim_setpoint_a=np.zeros(topology.n_modules) if self.trim_a is None else self.trim_a,
            )
        )
        plant.step(self.dt_s)
        self.tick += 1
        image = self.spoil(observe(plant, self.rng, self.tick, plant.time_s, NOISE))
        self.state, self.estimate = estimate(self.site, self.state, image, self.dt_s, self.cooling_frac)

    def _choose(self, power_w: FloatArray, by_remaining: bool) -> np.ndarray:
        """Rest one module in twelve: those with the least to give (or take), else in turn."""
        topology = self.site.topology
        inserted = np.ones(topology.n_modules, dtype=np.bool_)
        believed = self.estimate
        for s in range(topology.n_strings):
            rows = np.arange(topology.start[s], topology.start[s + 1])
            rest = max(1, rows.size // RESTING)
            if by_remaining:
                score = believed.remaining_ah if power_w[s] >= 0.0 else believed.chargeable_ah
                out = rows[np.argsort(score[rows])[:rest]]
            else:
                out = rows[(np.arange(rest) + (self.tick // SLOT_TICKS) * rest) % rows.size]
            inserted[out] = False
        return inserted


def with_soc_error(state: FilterState, soc_frac: FloatArray, std_frac: float) -> FilterState:
    """`state` with another belief about SOC, honest about its deviation."""
    groups = state.groups
    capacity = groups.capacity_ah
    z = np.clip(np.broadcast_to(soc_frac, capacity.shape), 0.0, 1.0)
    zero = np.zeros_like(capacity)
    return replace(
        state,
        groups=replace(
            groups,
            charge_ah=z * capacity,
            var_rr=(std_frac * capacity) ** 2 + z * z * groups.var_qq,
            var_rq=z * groups.var_qq,
            var_re=zero,
            var_qe=zero,
        ),
    )


def true_values(plant: Plant) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(M,) true SOC, capacity [Ah] and charge above empty [Ah], defined as the estimate's are."""
    capacity = plant.truth.capacity_ah
    left = (plant.cells.soc_frac * capacity).min(axis=1)
    room = ((1.0 - plant.cells.soc_frac) * capacity).min(axis=1)
    return left / (left + room), left + room, left
