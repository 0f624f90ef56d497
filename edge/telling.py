"""What the world is told of a completed tick: log, broker, disk, systemd. Nothing here waits."""

from __future__ import annotations

import structlog

from edge.core_values import CoreState, TickOutcome
from edge.figures import Figures
from edge.northbound.payloads import Health
from edge.parts import Parts
from edge.publisher import Publisher
from edge.status import Stamp, delivered_w

log = structlog.get_logger("daemon")


class Telling:
    """Tells of ticks; knows the publisher, where there is a broker."""

    def __init__(self, parts: Parts, figures: Figures) -> None:
        self._parts = parts
        self._figures = figures
        clock = parts.clock
        self.publisher = None
        if parts.link is not None:
            self.publisher = Publisher(
                parts.site,
                parts.link,
                health=self.health,
                stamp=lambda control_s: Stamp(clock.utc(), control_s, clock.scale),
                wall_s=clock.wall_s,
            )

    def tick(self, outcome: TickOutcome, state: CoreState) -> None:
        """Log, publish, store, watchdog."""
        view, parts = outcome.view, self._parts
        for event in outcome.events:
            log.info(event.kind, subject=event.subject, text=event.text, control_s=round(event.time_s, 1))
        for node in parts.south.events():
            log.warning("node", change=node.kind, node=node.label, gateway=node.gateway, text=node.text)
        if outcome.record is not None:
            self._log_interval(outcome)
        if self.publisher is not None:
            self.publisher.tick(outcome)
        parts.keeper.events(outcome.events)
        parts.keeper.tick(state, view, outcome.record)
        given = delivered_w(view)
        text = f"{view.mode.value}, {view.rung.name.lower()}, {0.0 if given is None else given / 1e3:.1f} kW"
        parts.notifier.completed(text)

    def _log_interval(self, outcome: TickOutcome) -> None:
        """The one canonical line of an interval."""
        record, view = outcome.record, outcome.view
        if record is None:
            return
        end = record.end
        log.info(
            "interval",
            number=record.interval,
            rung=end.rung.name.lower(),
            policy=end.policy,
            mode=view.mode.value,
            asked_w=round(end.asked_w),
            given_w=round(float(end.given_w.sum())),
            soc_min=round(float(end.soc_frac.min()), 4),
            soc_max=round(float(end.soc_frac.max()), 4),
            inserted=round(float(end.inserted_frac.sum()), 1),
            solve_ms=round(end.solve_ms, 2),
            loss_w=round(end.loss_w, 1),
            gap=round(end.gap_frac, 4),
            overruns=self._figures.overruns,
        )

    def health(self) -> Health:
        """For the status."""
        return Health(
            store_ok=not self._parts.keeper.trouble,
            store_text=self._parts.keeper.trouble,
            clock_synchronised=self._parts.clock_trusted,
            optimizer_ready=self._parts.worker.warm,
            ticks_overrun=self._figures.overruns,
        )
