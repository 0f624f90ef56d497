"""A host that asks for a birth gets one, whenever it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest
from sparkplug_rig import Field, mosquitto, node_on

from edge.northbound.sparkplug import session
from edge.northbound.sparkplug import sparkplug_b_pb2 as pb
from edge.northbound.sparkplug.codec import DataType

NCMD = "spBv1.0/yard/NCMD/demo"
REST_S = 3.0
SILENT_S = 30.0
"""Only a node that never answers takes so long."""
pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.xdist_group("sparkplug")]


def _write(name: str, value: bool | float) -> bytes:
    payload = pb.Payload(timestamp=round(time.time() * 1e3))
    metric = payload.metrics.add(name=name)
    if isinstance(value, bool):
        metric.datatype, metric.boolean_value = int(DataType.BOOLEAN), value
    else:
        metric.datatype, metric.double_value = int(DataType.DOUBLE), value
    return payload.SerializeToString()


REBIRTH = _write("Node Control/Rebirth", True)


@asynccontextmanager
async def _listening(broker: int) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client("127.0.0.1", broker) as host:
        await host.subscribe("spBv1.0/yard/#")
        yield host


async def _heard(host: aiomqtt.Client, kind: str) -> aiomqtt.Message:
    async with asyncio.timeout(SILENT_S):
        return await anext(m async for m in host.messages if f"/{kind}/" in str(m.topic))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SILENT_S):
        while not condition():  # noqa: ASYNC110 - the session sets no event that a test could wait for
            await asyncio.sleep(0.001)


async def _born(site: Field) -> None:
    await _until(lambda: site.session is not None and site.session.node.born)


@pytest.mark.parametrize("after_s", [None, 0.0, 0.05, 0.1, 0.19, 0.3])
async def test_host_that_comes_after_the_birth_is_answered(tmp_path: Path, after_s: float | None) -> None:
    """`None`: it asks at once, before or while the node is born."""
    async with mosquitto(tmp_path) as broker, node_on([broker], types="always") as site:
        if after_s is not None:
            await _born(site)
            await asyncio.sleep(after_s)
        async with _listening(broker) as host:
            await host.publish(NCMD, REBIRTH)
            await _heard(host, "NBIRTH")
            await host.publish(NCMD, _write("Control/SetPower", 5000.0))
            names = [m.name for m in pb.Payload.FromString((await _heard(host, "NDATA")).payload).metrics]
    assert "Reply/CurtailedTo" in names
    assert site.asked[0].envelope.args == {"power_w": 5000.0}


async def test_many_requests_share_a_birth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # long enough for twenty requests to come within it, on a busy machine too
    monkeypatch.setattr(session, "REBIRTH_REST_S", REST_S)
    async with mosquitto(tmp_path) as broker, node_on([broker]) as site, _listening(broker) as host:
        await _born(site)
        await asyncio.sleep(REST_S)
        for _ in range(20):
            await host.publish(NCMD, REBIRTH)
        await _heard(host, "NBIRTH")
        site.set_power(4321.0)
        kinds = []
        async with asyncio.timeout(SILENT_S):
            async for message in host.messages:
                kinds.append(str(message.topic).split("/")[2])
                if kinds[-1] == "NDATA":
                    break
    # after the first birth: one for the requests that came during it, and one for those after
    assert kinds.count("NBIRTH") <= 2


async def test_refused_write_and_rebirth_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, node_on([broker], types="always") as site:
        await _born(site)
        async with _listening(broker) as host:
            await host.publish(NCMD, REBIRTH)
            await host.publish(NCMD, _write("State/Mode", 1.0))
            await host.publish(NCMD, _write("Control/EmergencyStop", True))
            await _until(lambda: bool(site.asked))
            assert site.asked[0].envelope.action == "emergency_stop"
            await _heard(host, "NBIRTH")
            await _heard(host, "NDATA")
