"""`reconf send ACTION`: give a command over MQTT, wait for the reply and print it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.cli.check import EXIT_WRONG_FILE
from reconf.config import load_site
from reconf.errors import ConfigError
from reconf.site import Site

EXIT_REFUSED = 1
EXIT_NO_REPLY = 3
"""0 accepted or done, 1 refused, 2 wrong file or arguments, 3 no reply or no broker."""
MODES = (
    "mode: standby or run; off is asked for on site (`reconf mode off`), and so is maintenance "
    "(`reconf maintenance take`)"
)
"""What can be asked for from afar, and where the rest is to be had."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def send(
        action: Annotated[str, typer.Argument(help="set_power, set_mode, clear_fault, emergency_stop, ...")],
        site: Annotated[Path, typer.Option("--site", help="site file, or the name of a shipped one")],
        arguments: Annotated[
            list[str] | None,
            typer.Argument(help="KEY=VALUE ..., e.g. power_w=20000; values are JSON or text"),
        ] = None,
        broker: Annotated[str, typer.Option(help="HOST:PORT instead of the site file's")] = "",
        issuer: Annotated[str, typer.Option(help="who commands")] = "cli",
        expires_s: Annotated[float, typer.Option(help="how long the command holds [s]")] = 300.0,
        key: Annotated[Path | None, typer.Option(help="Ed25519 private key (PEM) to sign with")] = None,
        wait_s: Annotated[float, typer.Option(help="how long to wait for the reply [s]")] = 20.0,
    ) -> None:
        """Give a command to a site over MQTT and print its reply as JSON."""
        try:
            spec = with_broker(load_site(site), broker)
            fields = parse_arguments(arguments or [])
            command = make_command(spec, action, fields, issuer=issuer, expires_s=expires_s, key=key)
        except ConfigError as error:
            print(error, file=sys.stderr)
            raise typer.Exit(EXIT_WRONG_FILE) from error
        reply = asyncio.run(_exchange(spec, command, wait_s))
        if reply is None:
            raise typer.Exit(EXIT_NO_REPLY)
        print(json.dumps(reply, ensure_ascii=False))
        if reply["result"] == "refused":
            raise typer.Exit(EXIT_REFUSED)


def with_broker(site: Site, broker: str) -> Site:
    """The site with another broker address.

    Raises:
        ConfigError: not HOST:PORT.
    """
    if not broker:
        return site
    host, _, port = broker.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"broker {broker!r}: HOST:PORT, for example 127.0.0.1:1883")
    return replace(site, mqtt=replace(site.mqtt, host=host.strip("[]"), port=int(port)))


def parse_arguments(pairs: list[str]) -> dict[str, Any]:
    """`power_w=20000 mode=run` as a mapping; a value that is not JSON is text.

    Raises:
        ConfigError: not KEY=VALUE, or a key twice.
    """
    fields: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name or name in fields:
            raise ConfigError(f"argument {pair!r}: KEY=VALUE, each key once")
        try:
            fields[name] = json.loads(text)
        except json.JSONDecodeError:
            fields[name] = text
    return fields


def make_command(
    site: Site,
    action: str,
    fields: dict[str, Any],
    *,
    issuer: str,
    expires_s: float,
    key: Path | None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """A complete command with the issuer's next sequence.

    Raises:
        ConfigError: the action or its arguments are not allowed, or the key cannot be used.
    """
    from uuid import uuid4

    from pydantic import ValidationError

    from edge.northbound.actions import ARGS

    if action not in ARGS:
        raise ConfigError(f"action {action!r}: one of {', '.join(ARGS)}")
    try:
        ARGS[action].model_validate(fields)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or action}: {e['msg']}" for e in error.errors()]
        allowed = ", ".join(ARGS[action].model_fields) or "none"
        if action == "set_mode" and "mode" in fields:
            raise ConfigError(MODES) from error
        raise ConfigError(f"{'; '.join(lines)} (arguments of {action}: {allowed})") from error
    if action == "set_mode" and fields["mode"] == "maintenance":
        raise ConfigError(MODES)
    now = now or datetime.now(UTC)
    command: dict[str, Any] = {
        "id": str(uuid4()),
        "issuer": issuer,
        "sequence": next_sequence(site.name, issuer, now),
        "issued_at": now.isoformat(),
        "expires_at": (now + timedelta(seconds=expires_s)).isoformat(),
        "action": action,
        "args": fields,
        "site": site.name,
    }
    if key is not None:
        command["signature"] = _signed(command, key)
    return command


def next_sequence(site: str, issuer: str, now: datetime) -> int:
    """The issuer's next sequence on this machine, kept in the user's state directory.

    It is at least the date in milliseconds, so that a lost file, or another machine that took over the
    issuer's name, does not fall behind.

    Raises:
        ConfigError: the state directory cannot be used.
    """
    import platformdirs

    folder = Path(platformdirs.user_state_dir("reconf")) / "sequences"
    file, new = folder / f"{site}.{issuer}", folder / f"{site}.{issuer}.new"
    try:
        text = file.read_text().strip() if file.exists() else ""
        last = int(text) if text.isdigit() else 0
        number = max(last + 1, int(now.timestamp() * 1000))
        folder.mkdir(parents=True, exist_ok=True)
        new.write_text(str(number))
        new.replace(file)
    except OSError as error:
        raise ConfigError(f"{file}: the sequence of {issuer!r} cannot be kept: {error}") from error
    return number


def _signed(command: dict[str, Any], key: Path) -> str:
    """Signature of the command with the PEM key in a file."""
    from edge.northbound.signature import private_key, sign

    return sign(command, private_key(key))


async def _exchange(site: Site, command: dict[str, Any], wait_s: float) -> dict[str, Any] | None:
    """Send and wait; None with a word on stderr when nothing came."""
    from edge.northbound.commander import NoBrokerError, exchange

    try:
        reply = await exchange(site, command, wait_s)
    except NoBrokerError as error:
        print(f"no broker at {site.mqtt.host}:{site.mqtt.port}: {error}", file=sys.stderr)
        return None
    if reply is None:
        print(
            f"no reply to {command['id']} within {wait_s:g} s: is the site's edge running?", file=sys.stderr
        )
    return reply
