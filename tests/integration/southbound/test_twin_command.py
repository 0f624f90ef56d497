"""`reconf twin` as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from southbound_rig import south_of

from reconf.config import load_site
from reconf.shipped import find_site_file


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge.cli", "twin", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def order(process: subprocess.Popen[str], **what: object) -> dict[str, object]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


@pytest.mark.parametrize("name", ["demo", "leaf_yard", "container"])
async def test_serves_a_shipped_site_until_sigterm(name: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    process = start("--site", name, "--any-port", "--time-scale", "50", "--control", "--ledger", str(ledger))
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        site = load_site(find_site_file(name))
        gateways = []
        for g in site.gateways:
            at = ready["endpoints"][g.name]
            where = {"port": int(at.split(":")[1])} if g.kind == "tcp" else {"device": at}
            gateways.append(replace(g, timeout_s=1.0, **where))
        async with south_of(replace(site, gateways=tuple(gateways))) as south:
            image = await south.read(0.0, 0)
            assert image.modules.answered.all()
            assert image.strings.answered.all()
            serials = [m.serial if m else None for m in (await south.identities()).modules]
            assert serials == [m.serial for m in site.modules]
            first = site.positions[0]
            assert order(process, do="unit", gateway=first.gateway, unit=first.unit_id, exception=4)["ok"]
            image = await south.read(100.0, 1)
            assert list(np.flatnonzero(~image.modules.answered)) == [0]
        assert "unknown order" in str(order(process, do="dance")["text"])
        truth = order(process, do="ledger")["ledger"]
        assert isinstance(truth, dict)
        assert len(truth["soc_frac"]) == len(serials)
        process.terminate()
        assert process.wait(60) == 0
        assert json.loads(ledger.read_text())["violations"]["steps"] == 0
    finally:
        process.kill()
        process.communicate()


def test_wrong_site_file_is_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", "twin", "--site", "nowhere.yaml"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no such file" in done.stderr
