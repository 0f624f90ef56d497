"""Addresses given on the command line: HOST:PORT, serial devices, a gateway reached elsewhere."""

from __future__ import annotations

from dataclasses import replace

from reconf.errors import ConfigError
from reconf.site import GatewaySpec


def host_port(text: str, what: str) -> tuple[str, int]:
    """`HOST:PORT`, the host in brackets where it is an IPv6 address.

    Raises:
        ConfigError: it is not.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{what} {text!r}: allowed is HOST:PORT with a port of 1..65535")
    return host.strip("[]"), int(port)


def reached_at(gateway: GatewaySpec, address: str) -> GatewaySpec:
    """`gateway` at `address` (HOST:PORT, or the path of a serial device); an empty one changes nothing.

    Raises:
        ConfigError: the address is neither.
    """
    if not address:
        return gateway
    if address.startswith("/"):
        return replace(gateway, kind="rtu", device=address)
    host, port = host_port(address, f"--gateway {gateway.name}")
    return replace(gateway, kind="tcp", host=host, port=port)
