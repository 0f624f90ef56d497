"""The `sunspec` section of a site file, and the server it makes."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edge.northbound import renewal
from edge.northbound.sunspec.security import role_of
from edge.northbound.sunspec.start import sunspec_server
from edge.pki import issue, make_ca
from reconf.config import SiteFileError, load_site
from reconf.errors import ConfigError
from reconf.shipped import find_site_file
from reconf.site_links import SunSpecSpec

DEMO = find_site_file("demo")


def with_section(folder: Path, text: str) -> Path:
    path = folder / "site.yaml"
    path.write_text(DEMO.read_text() + f"\nsunspec: {text}\n")
    return path


def test_section_is_read(tmp_path: Path) -> None:
    site = load_site(with_section(tmp_path, "{port: 8502, writer: 127.0.0.1, issuer: plc}"))
    assert site.sunspec == SunSpecSpec(port=8502, writer="127.0.0.1", issuer="plc")
    assert load_site(DEMO).sunspec.port == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{port: 502, host: 0.0.0.0}", "without TLS"),
        ("{port: 802, host: 0.0.0.0, cert_file: a, key_file: b}", "cert_file and key_file alone"),
        ("{prot: 802}", "port"),
    ],
)
def test_unsecured_server_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SiteFileError, match=told):
        load_site(with_section(tmp_path, text))


def make(spec: SunSpecSpec):
    site = replace(load_site(DEMO), sunspec=spec)
    return sunspec_server(site, None, time.monotonic, lambda: datetime.now(UTC))


def test_no_port_no_server_and_broken_files_are_told() -> None:
    assert make(SunSpecSpec()) is None
    with pytest.raises(ConfigError, match="certificate"):
        make(SunSpecSpec(port=802, cert_file="x", key_file="y", client_ca_file="z"))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    run = lambda *a: subprocess.run(["openssl", *a], cwd=folder, check=True, capture_output=True)  # noqa: E731 - four calls
    for name in ("ca", "stranger"):
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    for name in ("server", "client"):
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-out", f"{name}.pem")  # fmt: skip
    return folder


async def test_tls_lets_in_clients_of_the_ca_only(pki: Path) -> None:
    files = {f"{k}_file": str(pki / v) for k, v in
             (("cert", "server.pem"), ("key", "server.key"), ("client_ca", "ca.pem"))}  # fmt: skip
    server = make(SunSpecSpec(port=8802, **files))
    assert server is not None
    server.options = replace(server.options, port=0)
    async with server:

        async def ask(certificate: str | None) -> bytes:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(pki / "ca.pem")
            if certificate:
                context.load_cert_chain(pki / f"{certificate}.pem", pki / f"{certificate}.key")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
            writer.write(b"\0\1\0\0\0\6\1\3\x9c\x40\0\2")
            try:
                return await asyncio.wait_for(reader.readexactly(9), 40.0)
            finally:
                writer.close()

        assert (await ask("client"))[7] == 0x83, "nothing was shown yet, but somebody answers"
        for stranger in (None, "stranger"):
            with pytest.raises((ssl.SSLError, OSError, asyncio.IncompleteReadError)):
                await ask(stranger)


async def test_roles_and_renewal_of_modbus_security(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own pki: the role in the certificate decides who may write; renewal needs no restart."""
    monkeypatch.setattr(renewal, "LOOK_S", 0.05)
    now = datetime.now(UTC)
    make_ca(tmp_path, "test CA", now)
    issue(tmp_path, "edge", now, server_names=["127.0.0.1"], days=20.0)
    for name, role in (("plc", "operator"), ("meter", "observer"), ("plain", "")):
        issue(tmp_path, name, now, modbus_role=role)
    files = {"cert_file": "edge.crt", "key_file": "edge.key", "client_ca_file": "ca.crt"}
    spec = SunSpecSpec(port=8802, writer="127.0.0.1", **{k: str(tmp_path / v) for k, v in files.items()})
    commands: list[bytes] = []

    async def submit(payload: bytes) -> None:
        commands.append(payload)

    server = sunspec_server(
        replace(load_site("demo"), sunspec=spec), submit, time.monotonic, lambda: datetime.now(UTC)
    )
    assert server is not None
    assert server.certificates is not None
    server.options = replace(server.options, port=0)

    async def write(name: str) -> tuple[int, int]:
        """Function code of the answer to a heartbeat write, and the server certificate's serial number."""
        context = ssl.create_default_context(cafile=tmp_path / "ca.crt")
        context.load_cert_chain(tmp_path / f"{name}.crt", tmp_path / f"{name}.key")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        shown = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True))
        writer.write(b"\0\1\0\0\0\6\1\6" + address.to_bytes(2, "big") + b"\0\7")
        answer = await asyncio.wait_for(reader.read(9), 40.0)
        writer.close()
        return answer[7], shown.serial_number

    async with server:
        address = next(p.address for p in server.devices.writable().values() if p.point.name == "CtrlHb")
        assert "ends in 20 days" in server.certificates.watch.text
        code, first = await write("plc")
        assert code == 6
        for name in ("meter", "plain"):
            assert (await write(name))[0] == 0x86
        issue(tmp_path, "edge", now, server_names=["127.0.0.1"], days=90.0)
        async with asyncio.timeout(40.0):
            while (shown := await write("plc"))[1] == first:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.05)
        code, second = shown
        assert code == 6
        assert second != first
        assert server.certificates.watch.text == ""
        # who dawdles in the handshake is hung up on, and keeps nobody out
        slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(50)]
        assert (await write("plc"))[0] == 6
        for _, writer in slow:
            writer.close()


def test_roles_that_cannot_be_read(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    make_ca(tmp_path, "test CA", now)
    made = issue(tmp_path, "plc", now, modbus_role="operator")
    der = x509.load_pem_x509_certificate(made.certificate.read_bytes()).public_bytes(Encoding.DER)
    assert role_of(der) == "operator"
    assert role_of(der[:100]) == ""
    with pytest.raises(ConfigError, match="at most"):
        issue(tmp_path, "plc", now, modbus_role="x" * 200)
