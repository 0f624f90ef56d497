"""The shipped mosquitto configuration: TLS, client certificates, and a hostile client that gets nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiomqtt
import pytest
from northbound_broker_tools import Mosquitto, command
from test_northbound_broker import connected, event, running, wait_for
from typer.testing import CliRunner

from edge.cli.main import app
from edge.northbound import renewal
from edge.northbound.link import MqttLink
from edge.northbound.mqtt_client import CheckedClient, make_client, read_secret, tls_context
from edge.northbound.renewal import CertificateWatch, TlsFiles
from edge.pki import days_left, issue, make_ca
from reconf.errors import ConfigError
from reconf.site_links import MqttSpec

pytestmark = pytest.mark.needs_mosquitto
DEPLOY = Path(__file__).resolve().parents[3] / "deploy" / "mosquitto"


class TlsMosquitto(Mosquitto):
    """The broker exactly as shipped; only port and folder are put in."""

    def start(self) -> None:
        text = (DEPLOY / "reconf.conf").read_text()
        text = text.replace("listener 8883", f"listener {self.port} 127.0.0.1\nuser root")
        text = text.replace("/etc/mosquitto/reconf/", f"{self.folder}/")
        (self.folder / "acl").write_text((DEPLOY / "acl").read_text())
        config = self.folder / "tls.conf"
        config.write_text(f"{text}\npersistence_location {self.folder}/\n")
        log = (self.folder / "log").open("wb")
        self.process = subprocess.Popen(["mosquitto", "-c", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + 40.0
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError((self.folder / "log").read_text())


@pytest.fixture
def secure(broker: Mosquitto) -> TlsMosquitto:
    """A running broker with a CA, and certificates of an edge, of SCADA, of a display and of a stranger."""
    now = datetime.now(UTC)
    make_ca(broker.folder, "test CA", now)
    issue(broker.folder, "broker", now, server_names=["127.0.0.1"])
    for name in ("demo", "leaf", "scada", "display", "stop-panel", "stranger"):
        issue(broker.folder, name, now)
    tls = TlsMosquitto(broker.folder, broker.port)
    tls.start()
    broker.process = tls.process  # the fixture `broker` stops it
    return tls


def client(broker: Mosquitto, name: str) -> aiomqtt.Client:
    context = ssl.create_default_context(cafile=str(broker.folder / "ca.crt"))
    context.load_cert_chain(broker.folder / f"{name}.crt", broker.folder / f"{name}.key")
    return aiomqtt.Client(
        "127.0.0.1", broker.port, tls_context=context, protocol=aiomqtt.ProtocolVersion.V5, timeout=30.0
    )


def files(broker: Mosquitto, name: str) -> dict[str, str]:
    folder = broker.folder
    return {
        "ca_file": str(folder / "ca.crt"),
        "cert_file": str(folder / f"{name}.crt"),
        "key_file": str(folder / f"{name}.key"),
    }


async def test_each_identity_touches_its_own_topics_only(secure: TlsMosquitto, tmp_path: Path) -> None:
    async with running(secure.port, tmp_path, ingress=True, **files(secure, "demo")) as link:
        await connected(link)
        assert 396.0 < (link.state().certificate_days or 0.0) < 397.1
        async with client(secure, "stranger") as hostile, client(secure, "display") as display:
            heard: list[str] = []

            async def listen() -> None:
                async for message in hostile.messages:
                    heard.append(str(message.topic))  # noqa: PERF401 - it never ends

            await hostile.subscribe("#", qos=1)
            await display.subscribe("reconf/#", qos=1)
            listening = asyncio.create_task(listen())
            for sender in (hostile, display):
                for topic in ("command", "status", "reply", "availability", "heartbeat"):
                    await sender.publish(
                        f"reconf/demo/{topic}", json.dumps(command()), qos=1, retain=topic == "status"
                    )
            link.publish(link.topics.event, event(1))
            async with client(secure, "scada") as scada:
                await scada.subscribe("reconf/+/reply", qos=1)
                order = command()
                await scada.publish("reconf/demo/command", json.dumps(order), qos=1)
                async with asyncio.timeout(40.0):
                    async for message in scada.messages:
                        reply = json.loads(bytes(message.payload))  # type: ignore[arg-type]
                        break
                assert reply["id"] == order["id"]
                assert reply["result"] == "accepted"
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        assert heard == []
        assert link.state().commands_refused == 0  # what the hostile clients sent never arrived
        assert link.state().publish_refused == 0


SAYS = {
    "demo": [
        *(
            f"reconf/demo/{t}"
            for t in ("status", "availability", "string/A", "module/M1", "event", "gap", "reply")
        ),
        *(f"spBv1.0/yard/{t}" for t in ("NBIRTH/demo", "NDATA/demo", "NDEATH/demo", "DBIRTH/demo/A")),
        *(f"spBv1.0/yard/{t}" for t in ("DDATA/demo/A", "DDEATH/demo/A")),
    ],
    "leaf": ["reconf/leaf/status", "spBv1.0/yard/NBIRTH/leaf"],
    "scada": [
        *(f"reconf/demo/{t}" for t in ("command", "emergency_stop", "heartbeat")),
        *(f"spBv1.0/{t}" for t in ("STATE/scada", "yard/NCMD/demo", "yard/DCMD/demo/A")),
    ],
    "display": [],
    "stop-panel": ["reconf/demo/emergency_stop"],
    "stranger": [],
}
"""Who may say what; everything else of this table is refused to everybody else."""
REPORTS = [t for t in SAYS["demo"] if t.startswith("reconf/") and not t.endswith("/reply")]
HEARS = {
    "demo": {*SAYS["scada"]},
    "leaf": {"spBv1.0/STATE/scada"},
    "scada": {*REPORTS, "reconf/demo/reply", "reconf/leaf/status"}
    | {t for says in SAYS.values() for t in says if t.startswith("spBv1.0/")},
    "display": {*REPORTS, "reconf/leaf/status", "spBv1.0/STATE/scada"},
    "stop-panel": {"reconf/demo/reply", "reconf/demo/availability", "spBv1.0/STATE/scada"},
    "stranger": {"spBv1.0/STATE/scada"},  # whether a host is there may be known to whoever has a certificate
}


LAST = ("spBv1.0/STATE/scada", b"that was all")


async def test_every_identity_and_every_topic(secure: TlsMosquitto) -> None:
    """Each identity tries to say everything; the broker's reason codes and what is heard are compared."""
    everything = list(dict.fromkeys(t for says in SAYS.values() for t in says))
    heard: dict[str, set[str]] = {name: set() for name in SAYS}
    ended = {name: asyncio.Event() for name in SAYS}
    allowed: dict[str, list[str]] = {}
    async with contextlib.AsyncExitStack() as stack:
        clients: dict[str, CheckedClient] = {}

        async def listen(name: str) -> None:
            async for message in clients[name].messages:
                heard[name].add(str(message.topic))
                if (str(message.topic), message.payload) == LAST:
                    ended[name].set()

        for name in SAYS:
            spec = MqttSpec(host="127.0.0.1", port=secure.port, protocol="5", **files(secure, name))
            clients[name] = await stack.enter_async_context(make_client(spec, identifier=name))
            await clients[name].subscribe("#", qos=1)
            task = asyncio.create_task(listen(name))
            stack.callback(task.cancel)
        for name, made in clients.items():
            codes = [await made.publish_checked(topic, b"{}") for topic in everything]
            allowed[name] = [t for t, code in zip(everything, codes, strict=True) if code < 128]
        # everybody hears the host's state, and hears in order: what comes after this one was not said before
        await clients["scada"].publish_checked(LAST[0], LAST[1])
        async with asyncio.timeout(40.0):
            await asyncio.gather(*(event.wait() for event in ended.values()))
    assert {name: sorted(topics) for name, topics in allowed.items()} == {
        name: sorted(topics) for name, topics in SAYS.items()
    }
    assert heard == HEARS


async def test_no_certificate_no_connection(secure: TlsMosquitto, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(secure.folder / "ca.crt"))
    with pytest.raises(aiomqtt.MqttError):
        async with aiomqtt.Client("127.0.0.1", secure.port, tls_context=context, timeout=2.0):
            pass
    other = tmp_path / "other"
    make_ca(other, "other CA", datetime.now(UTC))
    forged = issue(other, "demo", datetime.now(UTC))
    async with running(
        secure.port, tmp_path, ca_file=files(secure, "demo")["ca_file"], cert_file=str(forged.certificate),
        key_file=str(forged.key),
    ) as link:  # fmt: skip
        await wait_for(lambda: link.state().text)
        assert not link.connected


async def test_edge_does_not_talk_to_a_forged_broker(secure: TlsMosquitto, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_ca(other, "other CA", datetime.now(UTC))
    mine = files(secure, "demo") | {"ca_file": str(other / "ca.crt")}
    async with running(secure.port, tmp_path, **mine) as link:
        await wait_for(lambda: "certificate" in link.state().text.lower())
        assert not link.connected


async def test_renewed_certificate_is_used_without_restart(
    secure: TlsMosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "LOOK_S", 0.05)
    issue(secure.folder, "demo", datetime.now(UTC), days=10.0)
    async with running(secure.port, tmp_path, **files(secure, "demo")) as link:
        await connected(link)
        assert "ends in 10 days" in link.state().text
        issue(secure.folder, "demo", datetime.now(UTC), days=100.0)
        await wait_for(lambda: (link.state().certificate_days or 0.0) > 99.0 and link.connected)
        assert link.state().text == ""


@pytest.mark.parametrize(
    ("days", "told"), [(31.0, ""), (29.0, "ends in 29 days"), (-1.0, "ended 1 days ago")]
)
async def test_alarm_thirty_days_ahead(tmp_path: Path, days: float, told: str) -> None:
    now = datetime.now(UTC)
    make_ca(tmp_path, "test CA", now)
    made = issue(tmp_path, "demo", now - timedelta(days=40.0), days=40.0 + days)
    watch = CertificateWatch(TlsFiles("", str(made.certificate), "", "client"), lambda: now)
    watch.look()
    assert told in watch.text
    assert bool(watch.text) is bool(told)


def test_secrets_others_can_read_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("geheim\n")
    secret.chmod(0o640)
    with pytest.raises(ConfigError, match="others can read"):
        read_secret(secret)
    secret.chmod(0o600)
    assert read_secret(secret) == "geheim"


def test_plain_text_stays_on_this_machine() -> None:
    assert tls_context(MqttSpec(host="127.0.0.1")) is None
    assert tls_context(MqttSpec(host="10.0.0.1", insecure=True)) is None
    with pytest.raises(ConfigError, match="insecure: true"):
        tls_context(MqttSpec(host="10.0.0.1"))


def test_insecure_is_shown(tmp_path: Path) -> None:
    async def state() -> bool:
        from northbound_broker_tools import site_at

        site = site_at(1883, host="10.0.0.1", insecure=True)
        return MqttLink(site, store=None, executor=None).state().insecure

    assert asyncio.run(state())


def test_pki_command(tmp_path: Path) -> None:
    runner, folder = CliRunner(), str(tmp_path / "pki")
    assert runner.invoke(app, ["pki", "issue", "x", "--dir", folder]).exit_code == 2
    assert runner.invoke(app, ["pki", "init", "--dir", folder]).exit_code == 0
    first = (tmp_path / "pki" / "ca.crt").read_bytes()
    assert runner.invoke(app, ["pki", "init", "--dir", folder]).exit_code == 0
    assert (tmp_path / "pki" / "ca.crt").read_bytes() == first
    run = runner.invoke(
        app, ["pki", "issue", "broker", "--dir", folder, "--server", "127.0.0.1", "--days", "5"]
    )
    assert run.exit_code == 0, run.output
    assert 4.9 < days_left(tmp_path / "pki" / "broker.crt", datetime.now(UTC)) <= 5.0
    assert (tmp_path / "pki" / "broker.key").stat().st_mode & 0o077 == 0
    signer = runner.invoke(app, ["pki", "signer", "scada", "--dir", folder])
    assert "public_key" in signer.output
