"""`reconf commission`: guided commissioning, a pass/fail table, a signed report."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli.output import input_errors, stderr, write_json
from edge.cli.prompt import InterruptedByPersonError, guarded
from edge.cli.prompt import console as guided_console

if TYPE_CHECKING:
    from rich.console import Console

    from edge.wires.commission import Commissioning, Options
    from reconf.commissioning.outcome import StepOutcome
    from reconf.commissioning.steps import Step
    from reconf.site import Site

EXIT_FOUND = 1
EXIT_INTERRUPTED = 130


def commission(
    site: Annotated[Path | None, typer.Option(help="site file, or the name of a shipped one")] = None,
    gateway: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=HOST:PORT|/dev/..", help="reach a gateway elsewhere than the site says"),
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="STEP", help="leave a step out; repeatable")
    ] = None,
    report: Annotated[
        list[Path] | None, typer.Option(help="write the report: .json, .html or .pdf; repeatable")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Ed25519 private key (PEM) to sign the report; `reconf pki signer`")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="the daemon's state directory: locked, and where results are kept")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="forget what an earlier run found")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="write without asking")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the steps and what they write")] = False,
    time_scale: Annotated[float, typer.Option(min=0.01, help="of a twin that runs faster than life")] = 1.0,
    check_report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="check the signature of a report, do nothing else")
    ] = None,
    public_key: Annotated[str, typer.Option(help="with --check-report: who must have signed (base64)")] = "",
    json: Annotated[str | None, typer.Option(help="the report as JSON; - for stdout")] = None,
) -> None:
    """Prove a wired site, step by step, before it runs for the first time.

    Reads first: who answers, serial numbers, errors on the bus, voltages and polarity, temperatures at rest.
    Then, with contactors open: latches, every switch both ways by the string's voltage, every watchdog, trim.
    Then string by string: precharge, a small set point, the converter's own watchdog.

    Before each step that writes it says what it will write and how long it takes, and asks; --yes does not
    ask. Every written state passes the rules of the trial, and whatever can carry current passes the same
    verification as in operation. Ctrl-C leaves at once and in order: power 0, contactor open, then bypassed.

    Refuses a site whose daemon runs, whose contactor is closed, or whose nodes somebody else feeds. What
    passed is kept for a day: run it again after mending what it found, and it goes on from there.

    Exit code 0: everything passed; 1: faults, or not everything tried; 2: cannot be done; 130: interrupted.

    Example: reconf commission --site my-site.yaml --key me.sign.pem --report c.pdf --report c.json
    """
    from reconf.commissioning.steps import STEPS
    from reconf.errors import ConfigError

    with input_errors():
        if check_report is not None:
            _check(check_report, public_key)
            return
        unknown = set(skip or ()) - {s.step for s in STEPS}
        if unknown:
            raise ConfigError(f"--skip {min(unknown)}: the steps are {', '.join(s.step for s in STEPS)}")
        if dry_run:
            _list()
            return
        found = _commission(
            _Wanted(
                site,
                gateway or [],
                frozenset(skip or ()),
                report or [],
                key,
                state_dir,
                restart,
                yes,
                time_scale,
            )
        )
    if json:
        write_json(json, found)
    if found["verdict"] != "pass":
        raise typer.Exit(EXIT_FOUND)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line says."""

    site: Path | None
    gateways: list[str]
    skip: frozenset[str]
    reports: list[Path]
    key: Path | None
    state_dir: Path | None
    restart: bool
    yes: bool
    time_scale: float


def _check(path: Path, public_key: str) -> None:
    """Say whether a report's signature fits."""
    from edge.wires.report import check_report, verdict_text

    found, fits = check_report(path, public_key)
    stderr().print(f"{path}: {found['site']}, {found['ended_utc']}: {verdict_text(found)}", markup=False)
    if not fits:
        stderr().print("the signature does not fit, or there is none", style="red")
        raise typer.Exit(EXIT_FOUND)
    stderr().print(f"signed with public key {found['public_key']}", style="green")


def _list() -> None:
    """The steps and what they write."""
    from rich.console import Console
    from rich.table import Table

    from reconf.commissioning.steps import STEPS

    table = Table("", "step", "what passes", "what is written")
    for k, step in enumerate(STEPS, start=1):
        table.add_row(str(k), f"{step.step}\n{step.title}", step.text, step.writes or "nothing")
    Console(highlight=False).print(table)


def _commission(wanted: _Wanted) -> dict[str, Any]:
    """Do it; the report."""
    from edge.northbound.signature import private_key
    from edge.wires.commission import Options
    from edge.wires.looking import RackOptions
    from edge.wires.memory import sole_user
    from edge.wires.report import signed, write_html, write_pdf
    from edge.wires.target import BareLine, target_of
    from reconf.errors import ConfigError, DataFileError

    site = None if wanted.site is None else target_of(wanted.site, wanted.gateways, BareLine()).site
    if site is None:
        raise ConfigError("commissioning needs a site file: --site FILE")
    wrong = [p for p in wanted.reports if p.suffix not in (".json", ".html", ".pdf")]
    if wrong:
        raise DataFileError(f"{wrong[0]}: the ending says the format: .json, .html or .pdf")
    private = None if wanted.key is None else private_key(wanted.key)
    folder = wanted.state_dir or _default_state_dir(site.name)
    options = Options(RackOptions(time_scale=wanted.time_scale), skip=wanted.skip)
    with sole_user(folder):
        found = asyncio.run(_run(site, options, wanted, folder))
    if private is not None:
        found = signed(found, private)
    writers = {".json": lambda d, p: write_json(str(p), d), ".html": write_html, ".pdf": write_pdf}
    for path in wanted.reports:
        writers[path.suffix](found, path)
        stderr().print(f"{path} written", markup=False)
    return found


def _default_state_dir(site: str) -> Path:
    from platformdirs import user_state_path

    return user_state_path("reconf") / site


async def _run(site: Site, options: Options, wanted: _Wanted, folder: Path) -> dict[str, Any]:
    """All steps under the person's eyes; results are kept after each."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from edge.cli.commission_screen import Screen, show_verdict
    from edge.wires.commission import Commissioning, Talk
    from edge.wires.memory import remember
    from edge.wires.report import document

    console = guided_console()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        screen = Screen(console, bar, wanted.yes, time.monotonic)

        def ended(step: Step, outcome: StepOutcome) -> None:
            screen.ended(step, outcome)
            remember(folder, site, run.readings.answerers, run.outcomes, run.began_utc, datetime.now(UTC))

        def say(text: str) -> None:
            console.print(text, style="yellow", markup=False)

        talk = Talk(screen.ask, screen.began, ended, say, screen.progress)
        run = Commissioning(site, options, talk, datetime.now(UTC).isoformat(timespec="seconds"))
        console.print(
            f"Commissioning of {site.name}: {site.topology.n_modules} modules in {site.topology.n_strings} "
            "strings. Reading comes first; nothing is written before it is shown and asked."
        )
        if not wanted.restart:
            run.known = partial(_resume, run, folder, console)
        try:
            await guarded(run.run(), lambda: run.rack)
        except InterruptedByPersonError:
            say("Interrupted: every string was left open and bypassed. Run it again to go on from here.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    found = document(site, run.outcomes, run.began_utc, datetime.now(UTC))
    show_verdict(console, found)
    return found


def _resume(run: Commissioning, folder: Path, console: Console) -> None:
    """Take over what an earlier run found."""
    from edge.wires.memory import Remembered, recall

    known = recall(folder, run.site, run.readings.answerers, datetime.now(UTC))
    if isinstance(known, Remembered):
        run.outcomes.update(known.outcomes)
        run.began_utc = known.began_utc
        passed = sum(o.verdict.value == "pass" for o in known.outcomes.values())
        when = known.began_utc[:16]
        console.print(f"Going on with the run of {when} UTC: {passed} steps passed (--restart forgets).")
    elif known:
        console.print(f"An earlier run is not taken over: {known}.", markup=False)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(commission)
