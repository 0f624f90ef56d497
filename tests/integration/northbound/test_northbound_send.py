"""`reconf send` and the worked example of docs/protocols/mqtt.md, against a real broker and link."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from northbound_broker_tools import Mosquitto
from test_northbound_broker import connected, running
from typer.testing import CliRunner

from edge.cli.main import app
from edge.store import Store
from reconf.site import IssuerSpec

pytestmark = pytest.mark.needs_mosquitto
DOC = Path(__file__).resolve().parents[3] / "docs" / "protocols" / "mqtt.md"


async def send(broker: Mosquitto, home: Path, *words: str) -> tuple[int, str, str]:
    """The command in a thread of this process: exit code, last line of stdout, stderr."""
    at = ["--site", "demo", "--broker", f"127.0.0.1:{broker.port}"]
    environment = {"XDG_STATE_HOME": str(home)}
    result = await asyncio.to_thread(CliRunner().invoke, app, ["send", *words, *at], env=environment)
    # the link of the same process logs to the same stdout
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    return result.exit_code, lines[-1] if lines else "", result.stderr


async def test_send_gives_a_command_and_prints_the_reply(broker: Mosquitto, tmp_path: Path) -> None:
    broker.start()
    async with running(broker.port, tmp_path) as link:
        await connected(link)
        first = await send(broker, tmp_path, "set_power", "power_w=1000")
        assert first[0] == 0, first[2]
        reply = json.loads(first[1])
        assert (reply["result"], reply["curtailed_to_w"]) == ("accepted", 900.0)
        second = await send(broker, tmp_path, "set_mode", "mode=standby")
        assert second[0] == 0, second[2]
        refused = await send(broker, tmp_path, "set_mode", "mode=maintenance")
        assert refused[0] == 1
        assert json.loads(refused[1])["reason"] == "local_lock"
    wrong = await send(broker, tmp_path, "set_power", "power_kw=1")
    assert wrong[0] == 2
    assert "power_w" in wrong[2]
    silent = await send(broker, tmp_path, "emergency_stop", "--wait-s", "0.3")
    assert silent[0] == 3
    assert "no reply" in silent[2]
    broker.kill()
    absent = await send(broker, tmp_path, "emergency_stop")
    assert absent[0] == 3
    assert "no broker" in absent[2]
    with Store.open(tmp_path / "state", read_only=True) as store:
        kinds = [(e["kind"], e.get("reason")) for e in store.ledger.audit_entries()]
    # on record before anybody acts, and again with its outcome
    taken = [("order", None), ("command", "curtailed")]
    assert kinds == [*taken, *taken, ("refusal", "local_lock")]


async def test_signed_commands(broker: Mosquitto, tmp_path: Path) -> None:
    broker.start()
    key = Ed25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    pem = tmp_path / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pem.chmod(0o600)
    issuers = (IssuerSpec("scada", "operator", public),)
    async with running(broker.port, tmp_path, issuers=issuers, require_signature=("set_power",)) as link:
        await connected(link)
        order = ["set_power", "power_w=1000", "--issuer", "scada"]
        code, out, err = await send(broker, tmp_path, *order, "--key", str(pem))
        assert code == 0, out + err
        code, out, _ = await send(broker, tmp_path, *order)
        assert json.loads(out)["reason"] == "unsigned"
        code, out, _ = await send(broker, tmp_path, *order[:2], "--issuer", "stranger", "--key", str(pem))
        assert json.loads(out)["reason"] == "unknown_issuer"


async def test_worked_example_of_the_docs(broker: Mosquitto, tmp_path: Path) -> None:
    """The shell lines of the docs, run as they stand; only the broker's address is put in."""
    blocks = re.findall(r"```sh\n(.*?)```", DOC.read_text(), re.DOTALL)
    script = next(b for b in blocks if "mosquitto_rr" in b)
    broker.start()
    async with running(broker.port, tmp_path) as link:
        await connected(link)
        script = script.replace("BROKER=127.0.0.1", f"BROKER=127.0.0.1; PORT={broker.port}")
        script = script.replace("-h $BROKER", "-h $BROKER -p $PORT")
        process = await asyncio.create_subprocess_exec(
            "bash", "-euc", script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        assert json.loads(out.decode().strip().splitlines()[-1])["result"] == "accepted"
