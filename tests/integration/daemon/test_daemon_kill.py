"""A real daemon process, killed with SIGKILL at points nobody chose, and started again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from daemon_rig import field_of

from edge.store.store import Store
from reconf.config import load_site

pytestmark = pytest.mark.timeout(240)

SITE = """
site: killed
gateways:
  - {name: line-0, kind: tcp, host: 127.0.0.1, port: 5020, connections: 2, timeout_s: 0.8}
bus: {master: pcs, nominal_v: 400.0, min_v: 360.0, max_v: 440.0}
timing: {tick_s: 0.4, slot_s: 0.8, interval_s: 4.0}
module_types:
  small:
    chemistry: NMC
    cell_model: nmc_generic
    n_cells: 4
    n_parallel: 1
    rated_capacity_ah: 60.0
    soh_frac: 0.80
    soh_std_frac: 0.05
    resistance_scale: 1.2
    trim_rating_a: 0.0
    trim_efficiency_frac: 0.92
strings:
  - name: A
    fuse_a: 80.0
    r_on_ohm: 0.0005
    converter:
      gateway: line-0
      unit_id: 201
      power_rating_w: 4000.0
      current_rating_a: 60.0
      voltage_min_v: 40.0
      voltage_max_v: 86.0
      loss_fixed_w: 5.0
      loss_linear_frac: 0.01
      loss_quadratic_w_per_a2: 0.02
    positions:
      - count: 5
        gateway: line-0
        first_unit_id: 1
        label: "A{n:02d}"
        serial: "KILL-A{n:02d}"
        module_type: small
mqtt: {host: 127.0.0.1, port: 1883}
"""


async def start(
    site_file: Path, endpoint: str, state: Path, log: Path, *more: str
) -> asyncio.subprocess.Process:
    arguments = ["-m", "edge.cli", "run", "--site", str(site_file), "--gateway", f"line-0={endpoint}"]
    arguments += ["--state-dir", str(state), "--no-mqtt", *more]
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stderr=log.open("ab"), env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


async def closed_within(twin, seconds: float) -> bool:
    for _ in range(int(seconds / 0.05)):
        if twin.closed[0]:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_killed_at_any_point_nothing_closes_by_itself_and_the_state_stays_whole(tmp_path: Path) -> None:
    site_file, state, log = tmp_path / "site.yaml", tmp_path / "state", tmp_path / "daemon.log"
    site_file.write_text(SITE, encoding="utf-8")
    chance = random.Random(4)
    async with field_of(load_site(site_file)) as twin:
        endpoint = twin.server.endpoints["line-0"]
        # every node boots with its watchdog latched once 5 s have passed: start from there, not in the middle
        await asyncio.sleep(5.5)
        process = await start(site_file, endpoint, state, log, "--start")
        assert await closed_within(twin, 60.0), log.read_text()[-3000:]
        for _ in range(2):
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            process.send_signal(signal.SIGKILL)
            await process.wait()
            await asyncio.sleep(chance.uniform(0.0, 5.0))
            was_closed = twin.closed[0]
            seen = len(twin.writes)
            process = await start(site_file, endpoint, state, log)
            # up again: its heartbeats arrive
            for _ in range(600):
                if any(w.address == 0 for w in twin.writes[seen:]):
                    break
                await asyncio.sleep(0.05)
            await asyncio.sleep(2.0)
            assert process.returncode is None, log.read_text()[-3000:]
            # found open stays open; found closed stays, or its own watchdog opened it before we were back
            assert was_closed or not twin.closed[0]
            assert twin.bank.link_shorts == 0
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 40.0) == 0, log.read_text()[-3000:]
        assert not twin.closed[0]
        assert twin.bank.link_shorts == 0
        assert not np.any(twin.bank.plant.inputs.inserted)
    with Store.open(state, read_only=True) as store:
        assert store.ledger.get("mode") == "off"
        assert set(store.history.estimates()) == {f"KILL-A{n:02d}" for n in range(1, 6)}
        assert store.ledger.events()
    assert "tick_failed" not in log.read_text()
