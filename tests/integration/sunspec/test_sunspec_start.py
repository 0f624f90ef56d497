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

from edge.northbound.sunspec.start import sunspec_server
from reconf.config import SiteFileError, load_site
from reconf.errors import ConfigError
from reconf.shipped import find_site_file
from reconf.site import SunSpecSpec

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
                return await asyncio.wait_for(reader.readexactly(9), 5.0)
            finally:
                writer.close()

        assert (await ask("client"))[7] == 0x83, "nothing was shown yet, but somebody answers"
        for stranger in (None, "stranger"):
            with pytest.raises((ssl.SSLError, OSError, asyncio.IncompleteReadError)):
                await ask(stranger)
