"""Twelve simulated hours that no host could hear, and what the host gets afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sparkplug_rig import Host, host_on, mosquitto, node_on
from sparkplug_story import historical, metrics

from edge.bench.outage import closed_gate
from edge.northbound.sparkplug.metrics import shown

pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.xdist_group("sparkplug"), pytest.mark.timeout(120)]
MINUTES = 12 * 60
START = datetime(2026, 1, 31, tzinfo=UTC)


@dataclass
class Day:
    minute: int = 0

    def utc(self) -> datetime:
        return START + timedelta(minutes=self.minute)


def asked_w(minute: int) -> float:
    """A value that is new every minute, far beyond any deadband."""
    return 20_000.0 + 37.0 * minute if minute % 2 else -20_000.0 - 37.0 * minute


def told(host: Host) -> list[tuple[int, float]]:
    """(minute, power asked) of everything historical, as it came."""
    found = []
    for message in host.of("NDATA"):
        if not historical(message):
            continue
        for metric in metrics(message):
            if metric.get("name") == "Power/Asked" and "doubleValue" in metric:
                when = datetime.fromtimestamp(int(metric["timestamp"]) / 1e3, UTC)
                found.append(((when - START) // timedelta(minutes=1), metric["doubleValue"]))
    return found


@pytest.mark.parametrize(("rows_max", "lost"), [(100_000, False), (500, True)])
async def test_hours_without_a_host_follow_in_order(tmp_path: Path, rows_max: int, lost: bool) -> None:
    day = Day()
    async with (
        closed_gate() as (gate, port),
        node_on(
            [port], tmp_path / "state", utc=day.utc, primary_host="scada", period_s=1_000.0, types="always",
            outbox_max_rows=rows_max,
        ) as site,
    ):  # fmt: skip
        assert site.session is not None
        for day.minute in range(1, MINUTES):  # the daemon's own first tick is minute 0
            site.set_power(asked_w(day.minute))
            await site.session.show(shown(site.site, site.view))
        day.minute = MINUTES
        async with mosquitto(tmp_path) as broker, host_on(broker) as host:
            gate.to = broker
            host.state(online=True, timestamp=1)
            await host.until(lambda: any(minute == MINUTES - 1 for minute, _ in told(host)), 60.0)
            heard = [(minute, value) for minute, value in told(host) if minute]
            births = host.of("NBIRTH")
            kinds = [m["topic"].split("/")[2] for m in host.heard if "payload" in m]
    assert len(births) >= 1
    assert kinds.index("NBIRTH") < kinds.index("NDATA")
    minutes = list(dict.fromkeys(minute for minute, _ in heard))
    assert minutes == sorted(minutes)
    assert all(value == asked_w(minute) for minute, value in heard)
    if lost:
        assert minutes == list(range(minutes[0], MINUTES))
        assert 0 < minutes[0] < MINUTES
        dropped = [m[m["value"]] for b in births for m in metrics(b) if m.get("name") == "History/Dropped"]
        assert int(dropped[-1]) > 0
    else:
        assert minutes == list(range(1, MINUTES))
