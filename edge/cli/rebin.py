"""`reconf rebin`: better placement for a running site, and the swaps that lead there."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import input_errors, stderr, write_json

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def root() -> None:
    """Re-bin a running site: `propose` finds the moves that pay, `apply` guides the hands."""


@app.command()
def propose(
    site: Annotated[Path, typer.Argument(help="site file, or the name of a shipped one")],
    state_dir: Annotated[
        Path | None, typer.Option(help="state directory of the site's daemon (it may be running)")
    ] = None,
    mqtt_wait_s: Annotated[
        float,
        typer.Option(help="listen so long to what the site publishes over MQTT instead [s]", min=0),
    ] = 0.0,
    broker: Annotated[str, typer.Option(help="HOST:PORT instead of the site file's")] = "",
    shelf: Annotated[
        Path | None, typer.Option(help="modules that could come in: inventory, CSV or .xlsx")
    ] = None,
    cycles_per_year: Annotated[float, typer.Option(help="full discharges in a year", min=0)] = 250.0,
    value_per_kwh: Annotated[
        float, typer.Option(help="earned by a kWh each time; 0: the site file's energy price", min=0)
    ] = 0.0,
    minutes_per_position: Annotated[
        float, typer.Option(help="labour of one position: isolate, lift, bolt, check", min=0)
    ] = 25.0,
    labour_per_hour: Annotated[float, typer.Option(help="price of an hour of one person", min=0)] = 60.0,
    people: Annotated[int, typer.Option(help="people on site; nobody works alone", min=1)] = 2,
    visit_cost: Annotated[float, typer.Option(help="once: travel, lost hours of the site", min=0)] = 0.0,
    years: Annotated[int, typer.Option(help="years the new placement is to earn", min=1, max=30)] = 5,
    confidence: Annotated[
        float, typer.Option(help="probability with which a move must gain", min=0.5, max=0.999)
    ] = 0.9,
    positions_max: Annotated[int, typer.Option(help="open no more positions than this", min=1)] = 1_000_000,
    current_a: Annotated[
        float, typer.Option(help="string current [A]; 0: a third of the median capacity", min=0)
    ] = 0.0,
    spares: Annotated[
        int, typer.Option(help="positions that may rest; -1: what the converters' windows leave", min=-1)
    ] = -1,
    fade_per_year: Annotated[
        float, typer.Option(help="share of rated capacity lost per year", min=0, max=0.2)
    ] = 0.02,
    fade_cv: Annotated[float, typer.Option(help="spread of that between modules", min=0, max=1)] = 0.4,
    draws: Annotated[int, typer.Option(help="truths drawn within the estimates' doubt", min=20)] = 200,
    seed: Annotated[int, typer.Option(help="seed of the drawing")] = 1,
    key: Annotated[Path | None, typer.Option(help="engineer's Ed25519 key (PEM): signs the plan")] = None,
    plot: Annotated[Path | None, typer.Option(help="picture (.png, .pdf, .svg)")] = None,
    json: Annotated[str | None, typer.Option(help="the plan, for 'rebin apply'; - for stdout")] = None,
) -> None:
    """Find a better placement for a running site's modules, and only moves that pay.

    Capacity and resistance come from the daemon's own estimates, with their doubt: a move is proposed only
    if it gains with the confidence asked for and earns more than its labour. Nothing is written but the
    files you name.

    Example: reconf rebin propose site.yaml --state-dir /var/lib/reconf --visit-cost 300 --json plan.json
    """
    from rich.progress import Progress

    from edge import rebin
    from edge.cli.send import with_broker
    from edge.rebin_show import draw_proposal, print_proposal
    from reconf.config import load_site
    from reconf.errors import DataFileError
    from reconf.shipped import find_site_file

    with input_errors():
        spec = load_site(site)
        serials = frozenset(spec.topology.serials)
        if state_dir is not None:
            source = rebin.measured_from_state(state_dir, serials)
        elif mqtt_wait_s > 0.0:
            reached = with_broker(spec, broker)
            where = f"{reached.mqtt.host}:{reached.mqtt.port}"
            source = rebin.measured_from_payloads(
                spec, asyncio.run(rebin.listen(reached, mqtt_wait_s)), where
            )
        else:
            raise DataFileError("where are the measured values? --state-dir DIR, or --mqtt-wait-s 60")
        lot = rebin.shelf_lot(shelf)
        question = rebin.Question(
            labour=rebin.Labour(minutes_per_position, labour_per_hour, people, visit_cost),
            cycles_per_year=cycles_per_year, value_per_kwh=value_per_kwh, years=years, confidence=confidence,
            current_a=current_a, spares=None if spares < 0 else spares, fade_per_year=fade_per_year,
            fade_cv=fade_cv, draws=draws, seed=seed, positions_max=positions_max,
        )  # fmt: skip
        with Progress(console=stderr(), transient=True) as bar:
            task = bar.add_task("moves that pay", total=None)
            found = rebin.propose(
                spec,
                source,
                None if lot is None else rebin.without_placed(lot, serials),
                question,
                lambda done: bar.update(task, completed=done),
            )
        digest = hashlib.sha256(find_site_file(site).read_bytes()).hexdigest()
        doc = rebin.document(found, digest, datetime.now(UTC))
        if key is not None:
            doc = rebin.signed(doc, key)
        if plot is not None:
            draw_proposal(found, plot)
        if json:
            write_json(json, doc)
    print_proposal(found, doc, stderr())


@app.command()
def sign(
    plan: Annotated[Path, typer.Argument(help="what `rebin propose --json` wrote")],
    key: Annotated[Path, typer.Option(help="engineer's Ed25519 key (PEM, readable by nobody else)")],
    yes: Annotated[bool, typer.Option("--yes", help="sign without asking")] = False,
) -> None:
    """Sign a plan: the engineer has read it and orders the work."""
    from edge.cli.intake import confirm
    from edge.rebin import signed
    from edge.rebin_job import load_plan

    with input_errors():
        document = load_plan(plan)
        stderr().print(f"{len(document['steps'])} steps at site {document['site']}, made {document['made']}")
        confirm(f"Sign {plan}?", yes=yes)
        write_json(str(plan), signed({k: v for k, v in document.items() if k != "signature"}, key))


@app.command()
def apply(
    site: Annotated[Path, typer.Option("--site", help="site file; it is rewritten at the end")],
    plan: Annotated[
        Path | None, typer.Argument(help="signed plan; not needed to go on with an unfinished job")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option("--state-dir", help="the daemon's, where it is not the default")
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(help="file with the public key (base64) of who may order work, beside the site file's"),
    ] = None,
    inventory: Annotated[Path | None, typer.Option(help="note new positions in these passports")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show steps and changes, touch nothing")] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="undo the unfinished job: back to where it began")
    ] = False,
    by: Annotated[str, typer.Option("--by", help="who works; default: who is logged in")] = "",
) -> None:
    """Guide the swaps of a signed plan, one by one, each checked on the wire.

    Takes maintenance, and lets no step begin before every contactor reads open, every string is under
    60 V, the disconnect is locked and you have measured the absence of voltage. After each step the serials
    are read at their unit ids. The site file is rewritten at the end only. Interrupt it at any time: call it
    again and it goes on with what it finds, or with --rollback takes everything back.

    Example: reconf rebin apply plan.json --site /etc/reconf/site.yaml --dry-run
    """
    from edge.cli.door import folder_of
    from edge.cli.rebin_apply import Apply

    name, folder = folder_of(site, state_dir)
    with input_errors():
        Apply(site, name, folder, trust=trust, inventory=inventory, by=by).run(
            plan, dry_run=dry_run, rollback=rollback
        )
