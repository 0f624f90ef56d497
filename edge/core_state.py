"""What the core remembers, what it starts from, and the recorder of whole intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edge.core_values import CoreState, IntervalRecord, Pending, RecordedInput, Summary, TickView
from edge.interval import PlanBook
from edge.lasting import Lasting
from optimizer.result import Plan
from reconf.actuation import VerifiedCommand
from reconf.arrays import FloatArray
from reconf.captest.trial import CapacityTest
from reconf.devices.rm1 import Rm1Status
from reconf.estimation.memory import SavedModule
from reconf.protection.protect import SavedFault, initial_protection
from reconf.sequences import SiteMode
from reconf.site import Site


@dataclass(frozen=True, slots=True)
class SavedCore:
    """What a restart takes from the store; empty on the first start."""

    modules: Mapping[str, SavedModule] = field(default_factory=dict)
    """Estimates by serial."""
    away_s: float = 0.0
    """Time since they were written."""
    faults: tuple[SavedFault, ...] = ()
    lasting: Lasting = field(default_factory=Lasting)
    """Of the modes faults, emergency stop and maintenance live on, run does not."""
    capacity_test: CapacityTest | None = None

    @property
    def mode(self) -> SiteMode | None:
        """Mode that stood."""
        return self.lasting.mode


def fresh_state(site: Site, saved: SavedCore) -> CoreState:
    """State before the first image."""
    return CoreState(
        tick=0,
        time_s=0.0,
        filter=None,
        protection=initial_protection(site, saved.faults),
        sequence=None,
        schedule=None,
        setpoint=saved.lasting.setpoint,
        book=PlanBook(),
        in_force=None,
        target=None,
        next_slot_s=-np.inf,
        operator=saved.lasting.operator(),
        limits=saved.lasting.limits,
        balancing=saved.lasting.balancing,
        capacity_test=saved.capacity_test,
        pending=Pending(emergency_stop=_stop_unseen(saved)),
        maintenance=saved.lasting.maintenance,
    )


def _stop_unseen(saved: SavedCore) -> bool:
    """An emergency stop was acknowledged, and the process ended before a tick could latch it."""
    return saved.mode is SiteMode.ESTOP and all(f.fault != "emergency_stop" for f in saved.faults)


class Recorder:
    """Collects one interval's inputs and outputs and sums it up."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._start: CoreState | None = None
        self._inputs: list[RecordedInput] = []
        self._steps: list[VerifiedCommand] = []
        self._inserted = np.zeros(site.topology.n_modules)
        self._power = np.zeros(site.topology.n_strings)
        self._ticks = 0

    def begin(self, state: CoreState) -> None:
        """A new interval begins with `state`."""
        self._start = state
        self._inputs, self._steps = [], []
        self._inserted = np.zeros_like(self._inserted)
        self._power = np.zeros_like(self._power)
        self._ticks = 0

    def came_in(self, value: RecordedInput) -> None:
        """Note an input, in order."""
        self._inputs.append(value)

    def went_out(self, step: VerifiedCommand) -> None:
        """Note a step given to the wires."""
        self._steps.append(step)

    def ticked(self, view: TickView) -> None:
        """Count a finished tick into the averages."""
        image = view.input.image
        self._ticks += 1
        self._inserted += (image.modules.status & int(Rm1Status.INSERTED)) != 0
        self._power += np.nan_to_num(image.strings.power_w.value)

    def finish(self, view: TickView) -> IntervalRecord | None:
        """The interval that ends with `view`; None before the first was begun."""
        if self._start is None:
            return None
        return IntervalRecord(
            site=self._site.name,
            interval=view.book.interval,
            start=self._start,
            inputs=tuple(self._inputs),
            steps=tuple(self._steps),
            end=summary(view, self._power / max(self._ticks, 1), self._inserted / max(self._ticks, 1)),
        )


def summary(view: TickView, given_w: FloatArray, inserted_frac: FloatArray) -> Summary:
    """An interval in few numbers."""
    plan = view.book.plan
    return Summary(
        time_s=view.input.now_s,
        rung=view.rung,
        reason=view.rung_reason,
        asked_w=view.setpoint.power_w,
        given_w=given_w,
        soc_frac=view.estimate.soc_frac,
        inserted_frac=inserted_frac,
        solve_ms=plan.solve_ms if isinstance(plan, Plan) else float("nan"),
        loss_w=plan.loss_w if isinstance(plan, Plan) else float("nan"),
        gap_frac=plan.gap_frac if isinstance(plan, Plan) else float("nan"),
        policy=str(plan.policy) if isinstance(plan, Plan) else "none",
    )
