"""Modbus/TCP Security: mutual TLS, the client's role in its certificate, and certificates renewed in place.

MODBUS/TCP Security Protocol Specification (Modbus Organization, 2018): TLS 1.2 or later with certificates on
both sides, and the role as an extension of the client's certificate, from which the server decides what the
client may do.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from cryptography import x509

from edge.northbound import renewal
from edge.northbound.renewal import CertificateWatch, TlsFiles
from edge.pki import MODBUS_ROLE
from reconf.errors import ConfigError
from reconf.site_links import SunSpecSpec

WRITING_ROLES = frozenset(("operator", "engineer"))
"""Roles that may write; who has another role, or none, may read."""
UTF8_STRING = 0x0C
SHORT_LENGTH_MAX = 0x7F


def role_of(certificate: bytes) -> str:
    """Role in a certificate (DER), empty where it has none that can be read."""
    try:
        found = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_oid(MODBUS_ROLE)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ""
    value = found.value.value if isinstance(found.value, x509.UnrecognizedExtension) else b""
    if len(value) < 2 or value[0] != UTF8_STRING or value[1] > SHORT_LENGTH_MAX or len(value) != 2 + value[1]:
        return ""
    return value[2:].decode(errors="replace")


@dataclass
class ServerCertificates:
    """The server's side of TLS; `run` renews it in place, so that nobody has to be disconnected."""

    spec: SunSpecSpec
    utc: Callable[[], datetime]
    context: ssl.SSLContext = field(init=False)
    watch: CertificateWatch = field(init=False)

    def __post_init__(self) -> None:
        """Read the files.

        Raises:
            ConfigError: one of them cannot be used.
        """
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.verify_mode = ssl.CERT_REQUIRED
        spec = self.spec
        files = TlsFiles(spec.client_ca_file, spec.cert_file, spec.key_file, "SunSpec server")
        self.watch = CertificateWatch(files, self.utc)
        self._load()

    def _load(self) -> None:
        try:
            self.context.load_cert_chain(self.spec.cert_file, self.spec.key_file)
            self.context.load_verify_locations(self.spec.client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"sunspec: the certificate files cannot be used: {error}") from error

    async def run(self) -> None:
        """Use renewed files for new connections, until cancelled."""
        log = structlog.get_logger("sunspec")
        used, text = self.watch.look(), ""
        self.watch.tell()
        while True:
            await asyncio.sleep(renewal.LOOK_S)
            try:
                now = self.watch.look()
                if now != used:
                    self._load()
                    used = now
                    log.info("certificates_renewed")
                    self.watch.tell()
                text = ""
            except ConfigError as error:  # half written: the next look may find them whole
                if str(error) != text:
                    log.warning("certificates_not_renewed", why=str(error))
                text = str(error)
