"""The site file's sections for the outside: issuers, broker, SunSpec server, Sparkplug node."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reconf.config.model_parts import Name, Section


class Issuer(Section):
    """Who may command the site from afar."""

    name: Name
    role: Literal["observer", "operator", "engineer"] = "operator"
    public_key: str = Field(default="", description="Ed25519, base64 of the raw 32 bytes")


class Mqtt(Section):
    """The broker."""

    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    protocol: Literal["5", "3.1.1"] = "5"
    username: str = ""
    password_file: str = Field(
        default="", description="file that holds the password, readable by the daemon only"
    )
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    insecure: bool = Field(default=False, description="plain text to an address that is not loopback")
    topic_root: Name = "reconf"
    outbox_max_rows: int = Field(default=100_000, ge=10)
    require_signature: list[str] = Field(default=[], description="actions that are refused unsigned")
    issuers: list[Issuer] = Field(default=[], description="empty: any issuer (loopback brokers only)")


class SunSpec(Section):
    """The SunSpec Modbus server."""

    port: int = Field(default=0, ge=0, le=65535, description="0: not served")
    host: str = Field(default="127.0.0.1", description="address to listen on")
    writer: str = Field(default="", description="address of the one client that may write; empty: read-only")
    issuer: Name = Field(default="sunspec", description="that client's name among `mqtt.issuers`")
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = Field(
        default="", description="CA of the clients' certificates; together with the two before: TLS"
    )
    insecure: bool = Field(default=False, description="plain text on an address that is not loopback")


class Sparkplug(Section):
    """The Sparkplug B edge node; TLS, user and password are those of `mqtt`."""

    group: Name | Literal[""] = Field(default="", description="Sparkplug group; empty: no node")
    node: Name | Literal[""] = Field(default="", description="edge node; empty: the site's name")
    brokers: list[str] = Field(default=[], description="HOST:PORT in order; empty: that of `mqtt`")
    primary_host: Name | Literal[""] = Field(
        default="", description="host application without which nothing is said"
    )
    host_wait_s: float = Field(
        default=10.0, gt=0.0, le=600.0, description="for the primary host before the next broker is tried"
    )
    issuer: Name | Literal[""] = Field(
        default="",
        description="name in `mqtt.issuers` of whom the broker lets send NCMD and DCMD; empty: read-only",
    )
    hold_s: float = Field(
        default=300.0, gt=0.0, le=172_800.0, description="how long a set point written to a metric holds"
    )
    modules: Literal["metrics", "templates", "none"] = "metrics"
    aliases: bool = Field(default=False, description="data carry numbers instead of names")
    types: Literal["births", "always"] = Field(
        default="births", description="`always` for hosts that want the data type in data too"
    )
    period_s: float = Field(default=1.0, ge=0.1, le=60.0, description="between two looks at what has changed")


ACTIONS: tuple[str, ...] = (
    "set_power",
    "set_schedule",
    "set_limits",
    "set_mode",
    "clear_fault",
    "emergency_stop",
    "bypass_module",
    "return_module",
    "set_soc_window",
    "start_balancing",
    "start_capacity_test",
    "request_snapshot",
)
"""What a site can be told from afar."""
