"""How a site speaks with the outside: broker, SunSpec server, Sparkplug node. Built by `reconf.config`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class IssuerSpec:
    """Who may command the site from afar."""

    name: str
    role: Literal["observer", "operator", "engineer"] = "operator"
    public_key: str = ""
    """Ed25519 public key (base64, raw 32 bytes); empty: unsigned commands are taken."""


@dataclass(frozen=True, slots=True)
class MqttSpec:
    """The broker and what is asked of it."""

    host: str = "127.0.0.1"
    port: int = 1883
    protocol: Literal["5", "3.1.1"] = "5"
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    insecure: bool = False
    """Plain text to an address that is not loopback; status then shows it."""
    topic_root: str = "reconf"
    outbox_max_rows: int = 100_000
    require_signature: tuple[str, ...] = ()
    """Actions that are refused unsigned."""
    issuers: tuple[IssuerSpec, ...] = ()
    """Empty: any issuer, role engineer (loopback brokers only)."""


@dataclass(frozen=True, slots=True)
class SunSpecSpec:
    """The SunSpec Modbus server northbound."""

    port: int = 0
    """0: not served."""
    host: str = "127.0.0.1"
    writer: str = ""
    """Address of the one client that may write the set point; empty: read-only."""
    issuer: str = "sunspec"
    """Name of that client in the command contract."""
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    """Serve TLS and let in clients with a certificate of this CA only (Modbus/TCP Security)."""
    insecure: bool = False
    """Plain text on an address that is not loopback."""


@dataclass(frozen=True, slots=True)
class SparkplugSpec:
    """The Sparkplug B edge node northbound."""

    group: str = ""
    """Sparkplug group; empty: no node."""
    node: str = ""
    """Edge node; empty: the site's name."""
    brokers: tuple[str, ...] = ()
    """HOST:PORT in order of preference; empty: that of `mqtt`. TLS and password are those of `mqtt`."""
    primary_host: str = ""
    """Host application without which nothing is said; empty: none."""
    host_wait_s: float = 10.0
    """Wall time for the primary host on one broker before the next one is tried."""
    issuer: str = ""
    """Name in the command contract of whom the broker lets publish NCMD and DCMD; empty: read-only."""
    hold_s: float = 300.0
    """How long a set point written to a metric holds."""
    modules: Literal["metrics", "templates", "none"] = "metrics"
    aliases: bool = False
    types: Literal["births", "always"] = "births"
    """Data types in births only (as Sparkplug 3.0.0 wants it), or in data too."""
    period_s: float = 1.0
    """Wall time between two looks at what has changed."""
