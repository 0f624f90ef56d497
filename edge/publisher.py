"""What is published when: status at each interval and transition, strings with it, modules more rarely."""

from __future__ import annotations

from collections.abc import Callable

from edge.core_values import Event, TickOutcome, TickView
from edge.northbound.link import MqttLink
from edge.northbound.payloads import EventPayload, Health
from edge.status import Stamp, module_payload, site_status, string_payloads
from reconf.site import Site

STATUS_MIN_S = 0.5
"""Wall time between two statuses without a transition."""
MODULES_MIN_S = 5.0
"""Wall time between two rounds of all modules."""
MODULES_PER_TICK = 16
"""A round is spread over ticks, so that no tick pays for a thousand modules."""


class Publisher:
    """Decides what goes to the broker after a tick. Never waits."""

    def __init__(
        self,
        site: Site,
        link: MqttLink,
        *,
        health: Callable[[], Health],
        stamp: Callable[[float], Stamp],
        wall_s: Callable[[], float],
    ) -> None:
        self._site, self._link = site, link
        self._health, self._stamp, self._wall_s = health, stamp, wall_s
        self._status_at_s = self._round_at_s = float("-inf")
        self._next_module = site.topology.n_modules
        self._forced = True

    def force(self) -> None:
        """Publish everything with the next tick."""
        self._forced = True

    def tick(self, outcome: TickOutcome) -> None:
        """After a tick."""
        wall_s, view = self._wall_s(), outcome.view
        stamp = self._stamp(view.input.now_s)
        for event in outcome.events:
            self._event(event, stamp)
        interval_over = outcome.question is not None or wall_s - self._status_at_s >= self._interval_s(stamp)
        rested = wall_s - self._status_at_s >= STATUS_MIN_S
        if self._forced or outcome.events or (interval_over and rested):
            self._status_at_s = wall_s
            self._status(view, stamp)
        self._modules(view, stamp, wall_s)
        self._forced = False

    def _interval_s(self, stamp: Stamp) -> float:
        """Longest wall time without a status."""
        return self._site.timing.interval_s / stamp.time_scale

    def _event(self, event: Event, stamp: Stamp) -> None:
        payload = EventPayload(
            site=self._site.name, utc=stamp.utc, kind=event.kind, subject=event.subject, text=event.text
        )
        self._link.publish(self._link.topics.event, payload)

    def _status(self, view: TickView, stamp: Stamp) -> None:
        link, topics = self._link, self._link.topics
        link.publish(
            topics.status, site_status(self._site, view, stamp, link.state(), self._health()), retain=True
        )
        for payload in string_payloads(self._site, view, stamp):
            link.publish(topics.string(payload.name), payload)

    def _modules(self, view: TickView, stamp: Stamp, wall_s: float) -> None:
        n = self._site.topology.n_modules
        period_s = max(MODULES_MIN_S, self._interval_s(stamp))
        if self._next_module >= n and (self._forced or wall_s - self._round_at_s >= period_s):
            self._round_at_s, self._next_module = wall_s, 0
        last = min(self._next_module + MODULES_PER_TICK, n)
        for m in range(self._next_module, last):
            payload = module_payload(self._site, view, stamp, m)
            self._link.publish(self._link.topics.module(payload.serial), payload)
        self._next_module = last
