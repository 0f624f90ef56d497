"""What is published when: status as things move and every ten seconds, strings with it, modules rarely."""

from __future__ import annotations

from collections.abc import Callable

from edge.core_plan import rated_w
from edge.core_values import Event, TickOutcome, TickView
from edge.northbound.link import MqttLink
from edge.northbound.payloads import EventPayload, Health
from edge.status import Stamp, delivered_w, module_payload, site_status, string_payloads
from reconf.site import Site

STATUS_MIN_S = 0.5
"""Wall time between two statuses without a transition."""
STATUS_MAX_S = 10.0
"""Longest wall time without a status while somebody listens; without a broker, once an interval is enough."""
MOVED_FRAC = 0.01
"""Power that moved by this share of the rating is told at once."""
MODULES_MIN_S, MODULES_MAX_S = 5.0, 30.0
"""Wall time between two rounds of all modules; in between, once an interval. The longer one holds while
somebody listens."""
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
        self._told_w = (0.0, 0.0)
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
        since_s = wall_s - self._status_at_s
        due = outcome.question is not None or since_s >= self._status_max_s(stamp) or self._moved(view)
        if self._forced or outcome.events or (due and since_s >= STATUS_MIN_S):
            self._status_at_s, self._told_w = wall_s, _powers(view)
            self._status(view, stamp)
        self._modules(view, stamp, wall_s)
        self._forced = False

    def _interval_s(self, stamp: Stamp) -> float:
        """Wall time of an interval."""
        return self._site.timing.interval_s / stamp.time_scale

    def _status_max_s(self, stamp: Stamp) -> float:
        """Longest wall time without a status."""
        interval_s = self._interval_s(stamp)
        return min(STATUS_MAX_S, interval_s) if self._link.connected else interval_s

    def _moved(self, view: TickView) -> bool:
        """Power asked or given is no longer what was told; nobody needs to know while nobody listens."""
        if not self._link.connected:
            return False
        bound_w = MOVED_FRAC * rated_w(self._site)
        return any(abs(now - told) > bound_w for now, told in zip(_powers(view), self._told_w, strict=True))

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
        interval_s = self._interval_s(stamp)
        period_s = max(MODULES_MIN_S, min(interval_s, MODULES_MAX_S) if self._link.connected else interval_s)
        if self._next_module >= n and (self._forced or wall_s - self._round_at_s >= period_s):
            self._round_at_s, self._next_module = wall_s, 0
        last = min(self._next_module + MODULES_PER_TICK, n)
        for m in range(self._next_module, last):
            payload = module_payload(self._site, view, stamp, m)
            self._link.publish(self._link.topics.module(payload.serial), payload)
        self._next_module = last


def _powers(view: TickView) -> tuple[float, float]:
    """Power asked and delivered [W]."""
    return view.setpoint.power_w, delivered_w(view) or 0.0
