"""`reconf identify`: light a node's lamp; prove its wiring by the string's voltage."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli.output import input_errors, write_json
from edge.cli.prompt import InterruptedByPersonError, confirm, guarded
from edge.cli.prompt import console as guided_console
from edge.wires.target import BareLine, Target, target_of

if TYPE_CHECKING:
    from edge.wires.identify import Proof
    from reconf.commissioning.roster import Place
    from reconf.site import Site

EXIT_WRONG = 1
EXIT_INTERRUPTED = 130


def identify(
    node: Annotated[str, typer.Argument(help="serial, position, or GATEWAY:UNIT")] = "",
    site: Annotated[Path | None, typer.Option(help="site file, or the name of a shipped one")] = None,
    gateway: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=HOST:PORT|/dev/..", help="reach a gateway elsewhere than the site says"),
    ] = None,
    tcp: Annotated[str, typer.Option(metavar="HOST:PORT", help="one gateway, without a site file")] = "",
    serial: Annotated[str, typer.Option(metavar="PATH", help="one serial line, without a site file")] = "",
    baud: Annotated[int, typer.Option(help="of --serial", min=1200, max=1_000_000)] = 115200,
    parity: Annotated[str, typer.Option(help="of --serial: N, E or O")] = "N",
    unit: Annotated[int | None, typer.Option(help="unit id, with --tcp or --serial", min=1, max=200)] = None,
    seconds: Annotated[int, typer.Option(help="how long the lamp blinks; 0 stops it", min=0, max=600)] = 30,
    prove: Annotated[
        bool, typer.Option("--prove", help="insert it over two others, contactor open, and watch the voltage")
    ] = False,
    state_dir: Annotated[
        Path | None, typer.Option(help="the daemon's state directory (--prove locks it)")
    ] = None,
    time_scale: Annotated[float, typer.Option(min=0.01, help="of a twin that runs faster than life")] = 1.0,
    yes: Annotated[bool, typer.Option("--yes", help="write without asking")] = False,
    json: Annotated[str | None, typer.Option(help="the result as JSON; - for stdout")] = None,
) -> None:
    """Blink the lamp of a module's node; with --prove, show that it sits where the site file says.

    Switching does not move a module's own voltage, so only the string's tells: the module is inserted over
    two others, with the contactor read open, the converter off and at most three modules in, and bypassed
    again. STRING_VOLTAGE must rise and fall by its voltage; it falls where a module is wired backwards.

    Shows what it writes and asks first. Refuses --prove while a daemon runs the site or a contactor is
    closed.

    Exit code 0; 1: the proof failed, or was declined; 2: cannot be done; 130: interrupted, left in order.

    Example: reconf identify A07 --site my-site.yaml --prove     reconf identify --tcp 10.0.0.5:502 --unit 7
    """
    with input_errors():
        target = target_of(site, gateway or [], BareLine(tcp, serial, baud, parity))
        where, place = _where(target, node, unit)
        result = asyncio.run(_identify(target, where, place, seconds, prove, state_dir, time_scale, yes))
    if json:
        write_json(json, result)
    if result.get("proof", {}).get("verdict", "good") != "good":
        raise typer.Exit(EXIT_WRONG)


def _where(target: Target, node: str, unit: int | None) -> tuple[tuple[str, int], Place | None]:
    """Gateway and unit id, and the place in the site file."""
    from edge.wires.nodes import place_called
    from reconf.errors import ConfigError

    if target.site is None:
        if unit is None:
            raise ConfigError("without a site file, say --unit ID")
        return (target.gateways[0].name, unit), None
    if not node:
        raise ConfigError("say which node: a serial, a position, or GATEWAY:UNIT")
    place = place_called(target.site, node)
    if place.kind != "rm1":
        raise ConfigError(f"{node} is a converter: only module nodes have a lamp and a switch")
    return place.address, place


async def _identify(
    target: Target,
    where: tuple[str, int],
    place: Place | None,
    seconds: int,
    prove: bool,
    state_dir: Path | None,
    time_scale: float,
    yes: bool,
) -> dict[str, Any]:
    """Lamp first, then the proof."""
    from edge.wires.identify import blink
    from reconf.errors import ConfigError

    if prove and (target.site is None or place is None):
        raise ConfigError("--prove needs a site file: the string's converter and the other modules")
    console = guided_console()
    name = f"{place.label} ({place.subject}), " if place is not None else ""
    console.print(f"{name}{where[0]} unit {where[1]}", style="bold", markup=False)
    console.print(f"   writes: IDENTIFY = {seconds} (lamp blinks for {seconds} s)", style="cyan")
    if prove and place is not None:
        console.print(
            "   writes: for its string WATCHDOG, HEARTBEAT, command registers to 0, CLEAR; then INSERT 1, "
            "INSERT 0 of this module and two others, contactor open",
            style="cyan",
        )
    if not await confirm(console, "   Write?", yes=yes):
        raise typer.Exit(EXIT_WRONG)
    await blink(target.gateway(where[0]), where[1], seconds)
    console.print(f"The lamp blinks for {seconds} s." if seconds else "The lamp is off.")
    result: dict[str, Any] = {"gateway": where[0], "unit_id": where[1], "seconds": seconds}
    if not prove or target.site is None or place is None:
        return result
    proof = await _prove(target.site, place, state_dir, time_scale)
    return {**result, "proof": _show(target.site, place, proof)}


async def _prove(site: Site, place: Place, state_dir: Path | None, time_scale: float) -> Proof:
    """Under the lock, and left in order whatever happens."""
    from platformdirs import user_state_path

    from edge.wires.identify import Prover
    from edge.wires.looking import RackOptions
    from edge.wires.memory import sole_user

    console = guided_console()
    prover = Prover(
        site,
        site.topology.serials.index(place.subject),
        RackOptions(time_scale=time_scale),
        lambda text: console.print(text, style="yellow", markup=False),
    )
    with sole_user(state_dir or user_state_path("reconf") / site.name):
        try:
            return await guarded(prover.run(), lambda: prover.rack)
        except InterruptedByPersonError:
            console.print("Interrupted: the string was left open and bypassed.", style="yellow")
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _show(site: Site, place: Place, proof: Proof) -> dict[str, Any]:
    """Say what it showed; as plain data."""
    from edge.wires.trials import REMEDY
    from reconf.commissioning.insertion import Switch

    t, console = proof.tried, guided_console()
    string = next(s.name for s in site.strings for p in s.positions if p.module.serial == place.subject)
    beneath = " and ".join(proof.base) or "nobody"
    console.print(
        f"String {string}, over {beneath}: STRING_VOLTAGE {t.rise_v:+.1f} V when inserted, "
        f"{-t.fall_v:+.1f} V when bypassed; expected {t.expected_v:+.1f} V and {-t.expected_v:+.1f} V.",
        markup=False,
    )
    good = t.switch is Switch.GOOD
    if good and t.shown:
        console.print(
            f"{place.label} sits in string {string}, the right way round, and switches.", style="green"
        )
    elif good:
        console.print("It switches, but its STATUS does not say so: replace the node.", style="red")
    else:
        console.print(f"{t.switch}: {REMEDY[t.switch]}", style="red", markup=False)
    return {
        "verdict": t.switch.value if t.shown or not good else "status does not follow",
        "expected_v": round(t.expected_v, 3),
        "rise_v": round(t.rise_v, 3),
        "fall_v": round(t.fall_v, 3),
        "base": list(proof.base),
    }


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(identify)
