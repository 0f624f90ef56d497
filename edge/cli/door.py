"""What the on-site commands share: options, asking the daemon at its local socket, printing its reply."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.onsite.client import DoorError, ask
from edge.onsite.messages import SOCKET_NAME, Reply
from edge.state_dir import daemon_folder, state_folder
from reconf.config import load_site
from reconf.errors import ConfigError, StoreError
from reconf.shipped import find_site_file

EXIT_REFUSED = 1
EXIT_WRONG = 2
EXIT_NO_DAEMON = 3
"""0 done, 1 refused, 2 wrong file or arguments, 3 no daemon answers."""

SiteFile = Annotated[Path, typer.Option("--site", help="site file, or the name of a shipped one")]
StateDir = Annotated[
    Path | None, typer.Option("--state-dir", help="the daemon's state directory, where it is not the default")
]
By = Annotated[str, typer.Option("--by", help="who does it; default: who is logged in")]
Json = Annotated[bool, typer.Option("--json", help="print the reply as JSON")]


def folder_of(site: Path, state_dir: Path | None) -> tuple[str, Path]:
    """Name of the site, and the state directory of the daemon that runs it."""
    try:
        name = load_site(find_site_file(site)).name
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_WRONG) from error
    try:
        return name, daemon_folder(name, state_dir, SOCKET_NAME)
    except StoreError:
        return name, state_folder(name)  # whoever asks there is told that nobody answers


def ask_door(site: str, folder: Path, action: str, args: dict[str, Any], by: str) -> Reply:
    """Ask the daemon; exit code 3 where none answers."""
    try:
        return ask(folder, site, action, args, by=by)
    except DoorError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_NO_DAEMON) from error


def finish(reply: Reply, *, as_json: bool, show: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Print the reply; exit code 1 when it is a refusal."""
    if as_json:
        print(reply.model_dump_json())
    else:
        if reply.text:
            print(reply.text, file=sys.stdout if reply.accepted else sys.stderr)
        if show is not None and reply.data:
            show(reply.data)
    if not reply.accepted:
        raise typer.Exit(EXIT_REFUSED)


def show_site(data: dict[str, Any]) -> None:
    """The report as text."""
    lock = data["maintenance"]
    held = f"held by {lock['by']} since {lock['since_utc']}" if lock["held"] else "not taken"
    print(f"{data['site']}: mode {data['mode']}, maintenance {held}")
    for p in lock["permits"]:
        where = ", ".join(p["strings"]) or "every string"
        print(f"  hands inside: {p['by']} since {p['since_utc']} ({where}, {p['measured_v']:g} V measured)")
    for s in data["strings"]:
        voltage = "voltage not known" if s["voltage_v"] is None else f"{s['voltage_v']:.1f} V"
        contactor = f"contactor reads {s['contactor']}" if s["read"] else "converter does not answer"
        print(f"  string {s['name']}: {contactor}, {voltage}, {s['phase']}")
    for f in data["faults"]:
        state = "active" if f["active"] else "latched, cause gone"
        print(f"  {f['severity']} {f['fault']} on {f['subject']} ({state}) {f['evidence']}: {f['action']}")


def left(data: dict[str, Any]) -> bool:
    """Every contactor reads open and nothing moves any more."""
    moving = {"ramp_down", "opening", "bypassing"}
    strings = data["strings"]
    return bool(strings) and all(s["contactor"] == "open" and s["phase"] not in moving for s in strings)
