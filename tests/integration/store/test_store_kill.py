"""A process that writes is killed at any point: what it had acknowledged is there, whole."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from edge.store import Store

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from edge.store import Store

with Store.open(Path(sys.argv[1])) as store:
    last = store.ledger.sequences().get("scada", 0)
    for number in range(last + 1, 1_000_000):
        now = datetime.now(UTC)
        store.ledger.settle(utc=now, command_id=f"id-{number}", digest="d", reply={"n": number},
                            sequence=("scada", number), audit={"n": number})
        print(number, flush=True)
        store.history.save_estimates({f"M{i}": {"n": number} for i in range(20)}, now)
        store.history.outbox_put([("t", str(number).encode(), now)])
"""


def test_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(1)
    acknowledged = 0
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()  # it runs
        assert first
        time.sleep(rng.uniform(0.0, 0.15))
        writer.kill()
        lines = [first, *writer.stdout.readlines()]
        writer.wait()
        numbers = [int(line) for line in lines if line.endswith("\n")]
        assert numbers[0] >= acknowledged + 1
        acknowledged = numbers[-1]
        with Store.open(tmp_path, read_only=False) as store:
            assert store.ledger.sequences()["scada"] >= acknowledged
            assert store.ledger.reply(f"id-{acknowledged}") is not None
            check = store.ledger.verify_audit()
            assert check.first_bad is None
            assert check.entries >= acknowledged
            estimates = {row["n"] for row, _ in store.history.estimates().values()}
            assert len(estimates) <= 1  # a batch is there or not, never half
    assert acknowledged > 6
