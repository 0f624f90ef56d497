"""Which lines a command looks at: those of a site file, or one named on the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

from edge.endpoints import host_port, reached_at
from reconf.config import load_site
from reconf.errors import ConfigError
from reconf.shipped import find_site_file
from reconf.site import GatewaySpec, Site

Parity = Literal["N", "E", "O"]
BARE_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """Lines to look at."""

    gateways: tuple[GatewaySpec, ...]
    site: Site | None = None

    def gateway(self, name: str) -> GatewaySpec:
        """The line called `name`.

        Raises:
            ConfigError: there is none.
        """
        for gateway in self.gateways:
            if gateway.name == name:
                return gateway
        raise ConfigError(f"no gateway {name!r}; there are {', '.join(g.name for g in self.gateways)}")


@dataclass(frozen=True, slots=True)
class BareLine:
    """What `--tcp` or `--serial` say."""

    tcp: str = ""
    serial: str = ""
    baud: int = 115200
    parity: str = "N"


def target_of(site: Path | None, elsewhere: list[str], bare: BareLine) -> Target:
    """The lines that the options name.

    Args:
        site: site file or name of a shipped one.
        elsewhere: NAME=HOST:PORT or NAME=/dev/... in place of what the site file says.
        bare: one line without a site file.

    Raises:
        ConfigError: the options contradict each other, or something in them is wrong.
    """
    if sum((site is not None, bool(bare.tcp), bool(bare.serial))) != 1:
        raise ConfigError("say what to look at: one of --site FILE, --tcp HOST:PORT, --serial PATH")
    if site is not None:
        loaded = with_gateways(load_site(find_site_file(site)), elsewhere)
        return Target(loaded.gateways, loaded)
    if elsewhere:
        raise ConfigError("--gateway goes with --site")
    return Target((_bare_gateway(bare),))


def _bare_gateway(bare: BareLine) -> GatewaySpec:
    if bare.tcp:
        host, port = host_port(bare.tcp, "--tcp")
        return GatewaySpec("line", "tcp", host, port, timeout_s=BARE_TIMEOUT_S)
    if bare.parity not in get_args(Parity):
        raise ConfigError(f"--parity {bare.parity}: allowed is N, E or O")
    if not Path(bare.serial).exists():
        raise ConfigError(f"--serial {bare.serial}: there is no such device")
    parity = cast("Parity", bare.parity)
    return GatewaySpec(
        "line", "rtu", device=bare.serial, baudrate=bare.baud, parity=parity, timeout_s=BARE_TIMEOUT_S
    )


def with_gateways(site: Site, elsewhere: list[str]) -> Site:
    """`site` with some gateways reached elsewhere than its file says.

    Raises:
        ConfigError: a name or an address is wrong.
    """
    at: dict[str, str] = {}
    names = [g.name for g in site.gateways]
    for text in elsewhere:
        name, equals, address = text.partition("=")
        if not equals or not address or name not in names:
            raise ConfigError(
                f"--gateway {text!r}: allowed is NAME=HOST:PORT or NAME=/dev/..., of {', '.join(names)}"
            )
        at[name] = address
    return replace(site, gateways=tuple(reached_at(g, at.get(g.name, "")) for g in site.gateways))
