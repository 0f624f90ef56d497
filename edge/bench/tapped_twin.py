"""A twin that tells every register write with the moment it saw it, one JSON line each.

    python -m edge.bench.tapped_twin SITE TIME_SCALE

The first line is that of `reconf twin`; then {"t": monotonic seconds, "gateway", "unit", "address", "words"}.
The monotonic clock is the machine's, so that moments of several processes compare.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import numpy as np

from edge.modbus.pacer import Pacer
from edge.modbus.server import TwinServer
from reconf.config import load_site
from reconf.twin.firmware import NodeBank
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

HEARTBEAT = 0
"""Register of the heartbeat: not told."""
SOC_FRAC = 0.6


def _tell(gateway: str, unit: int, pdu: bytes) -> None:
    """One write (FC06, FC16)."""
    if pdu[0] not in (6, 16):
        return
    address, data = int.from_bytes(pdu[1:3], "big"), pdu[3:5] if pdu[0] == 6 else pdu[6:]
    words = [int.from_bytes(data[k : k + 2], "big") for k in range(0, len(data), 2)]
    if address != HEARTBEAT or len(words) > 1:
        line = {"t": time.monotonic(), "gateway": gateway, "unit": unit, "address": address, "words": words}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


async def serve(site_file: Path, time_scale: float) -> None:
    """Serve until SIGTERM."""
    site = load_site(site_file)
    rng = np.random.default_rng(site.twin_seed)
    bank = NodeBank(site, Plant(site, draw_truth(site, rng, soc_frac=SOC_FRAC)), rng)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with TwinServer(bank, any_port=True, tap=_tell) as server:
        passing = asyncio.create_task(Pacer(bank, time_scale, time.monotonic).run())
        sys.stdout.write(json.dumps({"endpoints": server.endpoints}) + "\n")
        sys.stdout.flush()
        await stop.wait()
        passing.cancel()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2])))
