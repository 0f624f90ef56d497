"""Detached Ed25519 signatures over canonical JSON (RFC 8032, RFC 8785)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from reconf.errors import ConfigError


def canonical_bytes(command: Mapping[str, Any]) -> bytes:
    """What is signed and what identifies a command: canonical JSON without `signature`."""
    return rfc8785.dumps({key: value for key, value in command.items() if key != "signature"})


def sign(command: Mapping[str, Any], key: Ed25519PrivateKey) -> str:
    """Base64 of the signature of `command`."""
    return base64.b64encode(key.sign(canonical_bytes(command))).decode()


def signature_fits(command: Mapping[str, Any], signature: str, public_key: str) -> bool:
    """Whether `signature` (base64) of `command` was made with the private half of `public_key` (base64)."""
    try:
        raw = base64.b64decode(signature, validate=True)
        if base64.b64encode(raw).decode() != signature:
            return False  # unused bits that are not zero: one signature, one text (RFC 4648, section 3.5)
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(raw, canonical_bytes(command))
    except (binascii.Error, ValueError, InvalidSignature):
        return False
    return True


def private_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key of a PEM file that nobody else can read.

    Raises:
        ConfigError: it cannot be used.
    """
    from edge.northbound.mqtt_client import check_private  # brings the MQTT client, which verifying needs not

    check_private(path)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: no private key in PEM without password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: not an Ed25519 key")
    return key
