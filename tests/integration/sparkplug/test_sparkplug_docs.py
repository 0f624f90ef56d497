"""The page for SCADA engineers: its example runs as printed, and it names every tag."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from sparkplug_rig import OUTSIDE, first_view, mosquitto, node_on, outside_host

from edge.northbound.sparkplug.metrics import make_node
from reconf.site_links import SparkplugSpec

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "protocols" / "sparkplug.md").read_text()
pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.xdist_group("sparkplug")]


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
        process = await asyncio.create_subprocess_exec(
            "node", str(script), stdout=asyncio.subprocess.PIPE, env=environment, limit=1 << 24
        )
        said = ""
        try:
            assert process.stdout is not None
            async with asyncio.timeout(60.0):
                while "Reply/CurtailedTo 1000" not in said or "Reply/Text" not in said:
                    line = await process.stdout.readline()
                    assert line, f"the example ended: {said[-300:]}"
                    said += line.decode()
        finally:
            process.kill()
            await process.wait()
        assert site.asked[0].envelope.args == {"power_w": 5000.0}
        for tag in ("NBIRTH/demo State/Mode", "DBIRTH/demo/A Voltage", "NDATA/demo Reply/Result accepted"):
            assert tag in said


def test_page_names_every_tag() -> None:
    site = replace(first_view()[0], sparkplug=SparkplugSpec(group="yard", issuer="plc"))
    node = make_node(site)
    tags = {d.name for d in node.node.defs if not d.name.startswith("Reply/")}
    tags |= {d.member or d.name for metrics in node.devices.values() for d in metrics.defs}
    assert [t for t in sorted(tags) if f"`{t}`" not in TEXT] == []
