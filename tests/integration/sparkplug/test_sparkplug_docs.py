"""The page for SCADA engineers: its example runs as printed, and it names every tag."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from sparkplug_rig import OUTSIDE, first_view, mosquitto, node_on, outside_host

from edge.northbound.sparkplug.metrics import make_node
from reconf.site import SparkplugSpec

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "protocols" / "sparkplug.md").read_text()
pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.xdist_group("sparkplug")]


def _answered(said: str) -> bool:
    return "Reply/CurtailedTo 1000" in said and "Reply/Text" in said


async def _heard(script: Path, environment: dict[str, str]) -> str:
    """What one run of the example prints until its command is answered, or 25 s long."""
    process = await asyncio.create_subprocess_exec(
        "node", str(script), stdout=asyncio.subprocess.PIPE, env=environment, limit=1 << 24
    )
    said = ""
    try:
        assert process.stdout is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(25.0):
                while not _answered(said) and (line := await process.stdout.readline()):
                    said += line.decode()
    finally:
        process.kill()
        await process.wait()
    return said


async def test_example_runs_as_printed(tmp_path: Path) -> None:
    outside_host()
    found = re.search(r"```js\n(.*?)```", TEXT, re.DOTALL)
    assert found
    script = tmp_path / "example.js"
    script.write_text(found[1])
    async with mosquitto(tmp_path) as broker, node_on([broker], types="always") as site:
        environment = os.environ | {
            "BROKER": f"mqtt://127.0.0.1:{broker}",
            "NODE_PATH": str(OUTSIDE / "node_modules"),
        }
        said = ""
        for _ in range(3):  # commands of Sparkplug have QoS 0: one may be lost, and a host then asks again
            said = await _heard(script, environment)
            if _answered(said):
                break
        assert _answered(said), f"the example ended: {said[-300:]}"
        assert site.asked[0].envelope.args == {"power_w": 5000.0}
        for tag in ("NBIRTH/demo State/Mode", "DBIRTH/demo/A Voltage", "NDATA/demo Reply/Result accepted"):
            assert tag in said


def test_page_names_every_tag() -> None:
    site = replace(first_view()[0], sparkplug=SparkplugSpec(group="yard", issuer="plc"))
    node = make_node(site)
    tags = {d.name for d in node.node.defs if not d.name.startswith("Reply/")}
    tags |= {d.member or d.name for metrics in node.devices.values() for d in metrics.defs}
    assert [t for t in sorted(tags) if f"`{t}`" not in TEXT] == []
