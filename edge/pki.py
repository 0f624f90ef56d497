"""A small certificate authority for one site or lab: a CA, a broker, edges and clients (ECDSA P-256).

For a lab, or as a pattern for a site: a utility's own PKI takes its place by putting its files there.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from reconf.errors import ConfigError

CA_YEARS = 10
LEAF_DAYS = 397
"""A little over a year: certificates are renewed while somebody remembers how."""
MODBUS_ROLE = x509.ObjectIdentifier("1.3.6.1.4.1.50316.802.1")
"""Extension that carries a client's role (MODBUS/TCP Security Protocol Specification)."""
ROLE_MAX = 127
_BACKDATED = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Issued:
    """Files of one identity."""

    certificate: Path
    key: Path


def make_ca(folder: Path, name: str, now: datetime) -> Issued:
    """Make the authority in `folder`; an existing one is kept.

    Raises:
        ConfigError: the folder cannot be used.
    """
    files = Issued(folder / "ca.crt", folder / "ca.key")
    if files.certificate.exists() and files.key.exists():
        return files
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(files, certificate, key)
    return files


def issue(
    folder: Path,
    name: str,
    now: datetime,
    *,
    server_names: Sequence[str] = (),
    days: float = LEAF_DAYS,
    modbus_role: str = "",
) -> Issued:
    """Issue a certificate for `name`, replacing an earlier one.

    Args:
        folder: holds the authority and gets the files `NAME.crt` and `NAME.key`.
        name: the identity (common name); brokers take it as the user name.
        now: issuing time.
        server_names: host names and addresses of a server; empty for a client.
        days: validity.
        modbus_role: role of a Modbus/TCP Security client, 127 bytes at most; empty: none.

    Raises:
        ConfigError: the role is too long, there is no authority in the folder, or it cannot be used.
    """
    authority, authority_key = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server_names else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
    )
    if server_names:
        alternatives = x509.SubjectAlternativeName([_general_name(n) for n in server_names])
        builder = builder.add_extension(alternatives, critical=False)
    if modbus_role:
        role = modbus_role.encode()
        if len(role) > ROLE_MAX:
            raise ConfigError(f"modbus role of {len(role)} bytes; at most {ROLE_MAX}")
        text = bytes((0x0C, len(role))) + role  # a UTF8String in DER (ITU-T X.690)
        builder = builder.add_extension(x509.UnrecognizedExtension(MODBUS_ROLE, text), critical=False)
    files = Issued(folder / f"{name}.crt", folder / f"{name}.key")
    _write(files, builder.sign(authority_key, hashes.SHA256()), key)
    return files


def days_left(certificate: Path, now: datetime) -> float:
    """Days until a certificate ends.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise ConfigError(f"{certificate}: no certificate: {error}") from error
    return (ends - now) / timedelta(days=1)


def _general_name(name: str) -> x509.GeneralName:
    """A host name or an address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The authority of a folder."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        key = load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{folder}: no certificate authority there: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{folder}/ca.key: not an elliptic-curve key")
    return certificate, key


def _write(files: Issued, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """Write both files; the key is its owner's alone from the first byte on."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        files.key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.key.unlink(missing_ok=True)
        handle = os.open(files.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    except OSError as error:
        raise ConfigError(f"{files.key.parent}: cannot be written: {error}") from error
