"""`reconf maintenance`: take and release the site for work on it, and ask whether hands may go inside.

Speaks to the running daemon over its local socket in the state directory; no broker is needed.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from edge.cli.door import By, Json, SiteFile, StateDir, ask_door, finish, folder_of, left, show_site

LEAVING_S = 30.0
POLL_S = 0.3

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def root() -> None:
    """Take and release the site for work on it; on site only."""


@app.command()
def take(
    site: SiteFile, state_dir: StateDir = None, by: By = "", json_out: Json = False,
    wait_s: Annotated[float, typer.Option(help="how long to wait for open contactors [s]")] = LEAVING_S,
) -> None:  # fmt: skip
    """Take the site: every string is left, commands from afar are refused, also after a restart."""
    door = folder_of(site, state_dir)
    reply = ask_door(*door, "maintenance_take", {}, by)
    end_s = time.monotonic() + wait_s
    while reply.accepted and not left(reply.data) and time.monotonic() < end_s:
        time.sleep(POLL_S)
        now = ask_door(*door, "status", {}, by)
        reply = reply.model_copy(update={"data": now.data})
    if reply.accepted and not left(reply.data):
        print("not every contactor reads open yet: look at 'reconf maintenance status'", file=sys.stderr)
    finish(reply, as_json=json_out, show=show_site)


@app.command()
def release(site: SiteFile, state_dir: StateDir = None, by: By = "", json_out: Json = False) -> None:
    """Give the site back; refused while somebody has hands inside. It stays off until it is started."""
    finish(ask_door(*folder_of(site, state_dir), "maintenance_release", {}, by), as_json=json_out)


@app.command()
def status(site: SiteFile, state_dir: StateDir = None, json_out: Json = False) -> None:
    """Mode, lock, hands inside, contactors, voltages, faults."""
    finish(ask_door(*folder_of(site, state_dir), "status", {}, ""), as_json=json_out, show=show_site)


@app.command(name="hands-inside")
def hands_inside(
    site: SiteFile,
    measured_v: Annotated[float, typer.Option(help="voltage measured at the place of work [V]")],
    disconnect_locked: Annotated[
        bool, typer.Option("--disconnect-locked", help="the disconnect is open and locked, I have the key")
    ] = False,
    string: Annotated[
        list[str] | None, typer.Option("--string", help="only this string; may be repeated")
    ] = None,
    state_dir: StateDir = None, by: By = "", json_out: Json = False,
) -> None:  # fmt: skip
    """Ask whether hands may go inside, and put it on record."""
    args = {
        "disconnect_locked": disconnect_locked, "measured_v": measured_v, "strings": list(string or ()),
    }  # fmt: skip
    finish(ask_door(*folder_of(site, state_dir), "hands_inside", args, by), as_json=json_out)


@app.command(name="hands-out")
def hands_out(site: SiteFile, state_dir: StateDir = None, by: By = "", json_out: Json = False) -> None:
    """My hands are out again."""
    finish(ask_door(*folder_of(site, state_dir), "hands_out", {}, by), as_json=json_out)
