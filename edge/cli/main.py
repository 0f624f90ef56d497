"""The command `reconf`. Each sub-command lives in a file of its own and is imported only when used.

A command module has a function `register(app: typer.Typer) -> None` that adds its command(s), or an
`app: typer.Typer` when it is a group of commands.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
import typer.main
from typer.core import TyperGroup

if TYPE_CHECKING:
    # typer carries its own copy of click; only its types are wanted
    import typer._click as click

COMMANDS: dict[str, tuple[str, str]] = {
    "check": ("edge.cli.check", "read a site file strictly and say everything that is wrong with it"),
    "twin": ("edge.cli.twin", "serve a simulated site as RM1/RC1 over Modbus"),
    "run": ("edge.cli.run", "the daemon: control a site"),
    "send": ("edge.cli.send", "send a command to a site over MQTT"),
    "maintenance": ("edge.cli.maintenance", "take and release a site for work on it, on site"),
    "clear": ("edge.cli.onsite", "clear a latched fault, on site"),
    "stop": ("edge.cli.onsite", "emergency stop, on site"),
    "mode": ("edge.cli.onsite", "start or stop a site, on site"),
    "demo": ("edge.cli.demo", "twin, broker and daemon in one, through one discharge and recharge"),
    "explain": ("edge.cli.explain", "say why a module is bypassed or limited"),
    "fit": ("edge.cli.fit", "fit cell parameters from test logs"),
    "grade": ("edge.cli.grade", "state of health of loose modules"),
    "intake": ("edge.cli.intake", "take modules and their test data into the inventory"),
    "passport": ("edge.cli.passport", "show, check and export module passports"),
    "bin": ("edge.cli.binning", "assign modules to strings and positions"),
    "size": ("edge.cli.size", "size a pack from an inventory"),
    "plan": ("edge.cli.plan", "write a site file, wiring list, labels and checklist"),
    "scan": ("edge.cli.scan", "find units on every bus, read-only"),
    "dump": ("edge.cli.dump", "registers of a node with their meaning"),
    "identify": ("edge.cli.identify", "blink a node; prove the wiring"),
    "commission": ("edge.cli.commission", "guided commissioning, pass/fail table"),
    "captest": ("edge.cli.captest", "capacity test of the live pack"),
    "rebin": ("edge.cli.rebin", "better placement for a running site"),
    "report": ("edge.cli.report", "the report of a lot or a site"),
    "audit": ("edge.cli.audit", "check the command log's hash chain"),
    "pki": ("edge.cli.pki", "make a site CA and certificates for a lab"),
    "schema": ("edge.cli.schema", "print the schemas of the interfaces"),
    "bench": ("edge.cli.bench.main", "benchmarks, each with --json"),
    "soak": ("edge.cli.soak", "the long campaigns in full, one table"),
}


def available(module: str) -> bool:
    """Whether `module` is part of this installation (without importing it)."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def load(module: str, name: str) -> click.Command:
    """Import `module` and return its command `name`."""
    loaded = importlib.import_module(module)
    if hasattr(loaded, "app"):
        return reflowed(typer.main.get_command(loaded.app))
    app = typer.Typer(add_completion=False)
    app.callback()(lambda: None)
    loaded.register(app)
    built = typer.main.get_command(app)
    if not isinstance(built, TyperGroup):
        raise TypeError(f"{module} registers no command")
    return reflowed(built.commands[name])


def reflowed(command: click.Command) -> click.Command:
    """The command with help in whole paragraphs: source lines are wider than many terminals."""
    if command.help:
        parts = command.help.split("\n\n")
        kept = [p if p.lstrip().startswith("Example") else " ".join(p.split()) for p in parts]
        command.help = "\n\n".join(kept)
    if isinstance(command, TyperGroup):
        for child in command.commands.values():
            reflowed(child)
    return command


class LazyGroup(TyperGroup):
    """Lists every command from a table and imports only the one that is asked for."""

    table: dict[str, tuple[str, str]] = COMMANDS

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names, in the order of the table."""
        return [name for name, (module, _) in self.table.items() if available(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command, imported now."""
        if cmd_name not in self.table or not available(self.table[cmd_name][0]):
            return None
        return load(self.table[cmd_name][0], cmd_name)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Help that imports nothing."""
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...")
        if self.help:
            formatter.write_paragraph()
            formatter.write_text(self.help)
        with formatter.section("Commands"):
            formatter.write_dl([(n, self.table[n][1]) for n in self.list_commands(ctx)])
        formatter.write_paragraph()
        formatter.write_text(f"'{ctx.command_path} COMMAND --help' says more.")


app = typer.Typer(cls=LazyGroup, add_completion=False, no_args_is_help=True)


@app.callback()
def root() -> None:
    """All the energy of every salvaged module, not of the weakest."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the command `reconf`."""
    app(args=list(argv) if argv is not None else None)
