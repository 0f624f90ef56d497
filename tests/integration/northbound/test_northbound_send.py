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
from test_northbound_broker import connected, event, running
from test_northbound_tls import TlsMosquitto, files, secure
from typer.testing import CliRunner

from edge.bench.hostile_commands import EXAMPLES
from edge.cli.main import app
from edge.store import Store
from reconf.site_links import IssuerSpec

__all__ = ["secure"]
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
        refused = await send(broker, tmp_path, "set_power", "power_w=1000", "--expires-s", "0.001")
        assert refused[0] == 1, refused[2]
        assert json.loads(refused[1])["reason"] == "expired"
    local = await send(broker, tmp_path, "set_mode", "mode=maintenance")
    assert local[0] == 2
    assert "reconf maintenance take" in local[2]
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
    assert kinds == [*taken, *taken, ("refusal", "expired")]


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


BLOCKS = re.findall(r"```sh\n(.*?)```", DOC.read_text(), re.DOTALL)


def script_at(port: int, *more: str, tls: str = "") -> str:
    """The shell lines of the docs as they stand, only with another port, and then more of them."""
    connect = BLOCKS[0].replace("PORT=1883", f"PORT={port}").replace('TLS=""', f'TLS="{tls}"')
    assert f"PORT={port}" in connect
    return "\n".join([connect, *more])


def give_function() -> str:
    """Only the function of the docs."""
    block = next(b for b in BLOCKS if "give() {" in b)
    return block[: block.index("\n}\n") + 3]


async def shell(script: str) -> list[str]:
    """Run lines, which must all succeed; what they printed."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60.0)
    assert process.returncode == 0, out.decode()
    return out.decode().splitlines()


async def test_worked_example_of_the_docs(broker: Mosquitto, tmp_path: Path) -> None:
    """Every shell line of the page, in its order, as an engineer would paste it."""
    broker.start()
    async with running(broker.port, tmp_path, ingress=True) as link:
        await connected(link)
        link.publish(link.topics.status, event(1), retain=True)
        lines = await shell(script_at(broker.port, *BLOCKS[1:]))
    assert json.loads(lines[0])["state"] == "online"
    assert any(line.startswith("reconf/demo/status {") for line in lines)
    replies = [json.loads(line) for line in lines if '"result"' in line]
    # control in short accepts everything but a snapshot, which it does at once
    assert [r["result"] for r in replies] == ["accepted"] * 7
    with Store.open(tmp_path / "state", read_only=True) as store:
        acted = [e["command"]["action"] for e in store.ledger.audit_entries() if e["kind"] == "command"]
    assert acted == [
        "set_mode", "set_power", "set_limits", "set_schedule", "request_snapshot", "set_mode",
        "emergency_stop",
    ]  # fmt: skip


async def test_every_action_as_an_engineer_gives_it(broker: Mosquitto, tmp_path: Path) -> None:
    """Every action of the table with the function of the docs and mosquitto's own client."""
    broker.start()
    async with running(broker.port, tmp_path) as link:
        await connected(link)
        given = [f"give {action} '{json.dumps(args)}'" for action, args in EXAMPLES.items()]
        lines = await shell(script_at(broker.port, give_function(), *given))
    replies = [json.loads(line) for line in lines[1:]]
    assert [r["result"] for r in replies] == ["accepted"] * len(EXAMPLES)


REFUSALS = {
    "malformed": 'give set_power \'{"power_w": "much"}\'',
    "unknown_keys": 'give set_power \'{"power_w": 1, "extra": 1}\'',
    "role_not_allowed": "ISSUER=watch give set_power '{\"power_w\": 1}'",
    "unknown_issuer": "ISSUER=nobody give set_power '{\"power_w\": 1}'",
    "lifetime": "give set_power '{\"power_w\": 1}' 200000",
    "local_lock": 'give set_mode \'{"mode": "maintenance"}\'',
    "unsigned": "give set_limits '{\"charge_max_w\": 1}'",
}


async def test_refusals_as_an_engineer_meets_them(broker: Mosquitto, tmp_path: Path) -> None:
    """The same function, with one thing wrong each time; the reply says which."""
    broker.start()
    issuers = (IssuerSpec("scada", "operator"), IssuerSpec("watch", "observer"))
    async with running(broker.port, tmp_path, issuers=issuers, require_signature=("set_limits",)) as link:
        await connected(link)
        one = "give set_power '{\"power_w\": 1}'"
        changed = {
            "wrong_site": ('\\"site\\": \\"$SITE\\"', '\\"site\\": \\"other\\"', one),
            "expired": ("date -u +%Y", "date -u -d '-60 seconds' +%Y", f"{one} -10"),
            "future_dated": ("date -u +%Y", "date -u -d '+60 seconds' +%Y", one),
        }
        variants = [f"{give_function().replace(old, new)}\n{line}" for old, new, line in changed.values()]
        lines = await shell(script_at(broker.port, give_function(), *REFUSALS.values(), *variants))
    assert [json.loads(line)["reason"] for line in lines[1:]] == [*REFUSALS, *changed]
    assert link.commands.empty()


async def test_the_docs_over_tls(secure: TlsMosquitto, tmp_path: Path) -> None:
    """The same lines against the shipped broker configuration, with certificates."""
    words = {"cafile": "ca.crt", "cert": "scada.crt", "key": "scada.key"}
    tls = " ".join(f"--{word} {secure.folder / name}" for word, name in words.items())
    async with running(secure.port, tmp_path, ingress=True, **files(secure, "demo")) as link:
        await connected(link)
        given = ["give set_power '{\"power_w\": 5000}' 900", "give emergency_stop '{}'"]
        lines = await shell(script_at(secure.port, give_function(), *given, tls=tls))
    assert [json.loads(line)["result"] for line in lines[1:]] == ["accepted", "accepted"]
