"""Every action of the command contract, from its bytes to what the twin then does."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from daemon_rig import Field, daemon_on, field_of, quick_site, until

from edge.supervisor import Daemon
from reconf.sequences import SiteMode
from reconf.site import FallbackSpec

pytestmark = pytest.mark.timeout(240)
LEFT_S = 40.0


class Operator:
    """Gives commands to a daemon's gate and hears the replies; no broker is needed for that."""

    def __init__(self, made: Daemon) -> None:
        assert made.parts.link is not None
        self.link = made.parts.link
        self.replies: dict[str, list[Any]] = {}
        self._sequence = int(time.time() * 1e3)
        self.link.reply_heard.append(lambda reply: self.replies.setdefault(str(reply.id), []).append(reply))

    async def give(self, action: str, *, life_s: float = 300.0, **args: Any) -> Any:
        """The first reply; its `id` leads to later ones."""
        now = datetime.now(UTC)
        self._sequence += 1
        command = {
            "id": str(uuid4()), "issuer": "scada", "sequence": self._sequence, "issued_at": now.isoformat(),
            "expires_at": (now + timedelta(seconds=life_s)).isoformat(), "action": action, "args": args,
        }  # fmt: skip
        await self.link.gate.take(json.dumps(command).encode(), retained=False)
        return self.replies[str(command["id"])][0]

    def heard(self, reply: Any) -> list[str]:
        """Results of everything said to the command of `reply` until now."""
        return [r.result for r in self.replies[reply.id]]

    async def accepted(self, action: str, *, life_s: float = 300.0, **args: Any) -> Any:
        reply = await self.give(action, life_s=life_s, **args)
        assert reply.result == "accepted", reply
        return reply


async def reaches(what: Callable[[], bool], limit_s: float = LEFT_S) -> None:
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end, "not reached"
        await asyncio.sleep(0.05)


def near(twin: Field, power_w: float) -> Callable[[], bool]:
    return lambda: abs(twin.power_w - power_w) <= 0.1 * abs(power_w) + 30.0


async def test_every_action_acts(tmp_path: Path) -> None:
    site = replace(quick_site(), fallback=FallbackSpec(action="zero"))
    async with field_of(site) as twin:
        async with daemon_on(twin, state_dir=tmp_path, northbound=True, leave=False) as made:
            operator = Operator(made)
            await until(made, lambda v: v.mode is SiteMode.OFF)
            await operator.accepted("set_mode", mode="run")
            await until(made, lambda v: v.mode is SiteMode.RUN)

            first = await operator.accepted("set_power", power_w=850.0)
            await reaches(near(twin, 850.0))
            # limits hold the power down until they expire, then the set point is served again
            await operator.accepted("set_limits", discharge_max_w=400.0)
            held = await operator.give("set_power", power_w=900.0)
            assert (held.reason, held.curtailed_to_w) == ("curtailed", 400.0)
            assert "temporary limits" in held.text, "whose limit it is, not the first that comes to mind"
            await reaches(near(twin, 400.0))
            await operator.accepted("set_limits", discharge_max_w=400.0, life_s=1.0)
            await reaches(near(twin, 900.0))
            # a ramp is kept: 100 W a second from 900 W
            began = time.monotonic()
            await operator.accepted("set_power", power_w=600.0, ramp_w_per_s=150.0)
            await reaches(near(twin, 600.0))
            assert time.monotonic() - began >= 1.0
            await reaches(lambda: operator.heard(first) == ["accepted", "superseded"])
            # a revert time ends a set point before its expiry, and that is told
            short = await operator.accepted("set_power", power_w=500.0, revert_s=2.0)
            await reaches(near(twin, 0.0))
            await reaches(lambda: operator.heard(short) == ["accepted", "done"])
            # a schedule: each step in its time, both directions
            await operator.accepted(
                "set_schedule", start=datetime.now(UTC).isoformat(), step_s=8.0, power_w=[700.0, -500.0]
            )
            await reaches(near(twin, 700.0))
            await reaches(near(twin, -500.0))

            serial = site.topology.serials[1]
            await operator.accepted("bypass_module", serial=serial)
            await operator.accepted("set_power", power_w=800.0)
            await until(made, lambda v: not v.in_force.inserted[1] and bool(v.out_of_service[1]))
            await operator.accepted("return_module", serial=serial)
            await until(made, lambda v: not v.out_of_service[1])
            assert (await operator.give("bypass_module", serial="nobody")).reason == "unknown_module"
            # nothing may leave below 95 %: the site is at 60
            await operator.accepted("set_soc_window", soc_min_frac=0.95, soc_max_frac=1.0)
            await reaches(lambda: twin.power_w < 100.0)
            await operator.accepted("set_soc_window", soc_min_frac=0.05, soc_max_frac=1.0)
            await reaches(near(twin, 800.0))

            await operator.accepted("start_balancing", active=True)
            assert made.core.state.balancing
            await operator.accepted("start_balancing", active=False)
            assert (await operator.give("clear_fault", fault="over_temperature")).result == "refused"
            assert made.parts.link is not None
            queued = made.parts.link.outgoing.waiting
            assert (await operator.give("request_snapshot")).result == "done"
            await reaches(lambda: made.parts.link.outgoing.waiting >= queued + site.topology.n_modules)

            await operator.accepted("set_mode", mode="standby")
            await reaches(near(twin, 0.0))
            assert (await operator.give("set_mode", mode="maintenance")).reason == "local_lock"
            await operator.accepted("set_limits", charge_max_w=123.0)
            await operator.accepted("emergency_stop")
            await reaches(lambda: not any(twin.closed))
            await until(made, lambda v: v.mode is SiteMode.ESTOP)
            assert (await operator.give("set_mode", mode="run")).reason == "fault_latched"
            assert (await operator.give("clear_fault", fault="emergency_stop")).result == "refused"
        assert twin.bank.link_shorts == 0

        # the process vanished; the stop, the limits and the window are still there
        async with daemon_on(twin, state_dir=tmp_path, northbound=True) as made:
            view = await until(made, lambda v: v.mode is SiteMode.ESTOP)
            assert any(f.fault == "emergency_stop" for f in view.envelope.faults)
            assert made.core.state.limits.charge_max_w == 123.0
            assert made.core.state.operator.soc_min_frac == 0.05
            assert (await Operator(made).give("set_mode", mode="run")).reason == "fault_latched"


async def test_a_stop_acknowledged_before_any_tick_outlives_a_kill(tmp_path: Path) -> None:
    """Acknowledged, and killed before a tick could latch it: it is latched by the next process."""
    site = quick_site(n_strings=1)
    async with field_of(site) as twin:
        async with daemon_on(twin, state_dir=tmp_path, northbound=True, leave=False) as made:
            await until(made, lambda v: v.mode is SiteMode.OFF)
            operator = Operator(made)
            await operator.accepted("set_mode", mode="run")
            await until(made, lambda v: v.mode is SiteMode.RUN)
            await operator.accepted("emergency_stop")
        async with daemon_on(twin, state_dir=tmp_path, northbound=True) as made:
            view = await until(made, lambda v: v.mode is SiteMode.ESTOP)
            assert any(f.fault == "emergency_stop" and f.latched for f in view.envelope.faults)
            await reaches(lambda: not any(twin.closed))
