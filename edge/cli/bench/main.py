"""`reconf bench NAME --json PATH|-`: each benchmark in a file of its own."""

from __future__ import annotations

import typer

from edge.cli.main import LazyGroup

BENCHES: dict[str, tuple[str, str]] = {
    "control": ("edge.cli.bench.control", "tick time, solve time, memory and wire share of the daemon"),
    "allocate": ("edge.cli.bench.allocate", "structured solver against cvxpy, certified gap"),
    "energy": ("edge.cli.bench.energy", "energy of the policies on the twin in closed loop"),
    "bus": ("edge.cli.bench.bus", "DC bus held by an RC1: slot changes, load steps, loss of the master"),
    "estimate": ("edge.cli.bench.estimate", "time and memory of the state filter"),
    "soc": ("edge.cli.bench.soc", "SOC and capacity errors on the Leaf logs and the twin"),
    "foreign": ("edge.cli.bench.foreign", "the state filter beside cells that are not its model's"),
    "integrity": ("edge.cli.bench.integrity", "lies found, false alarms"),
    "soh": ("edge.cli.bench.soh", "state of health from pulses, cell-disjoint"),
    "protect": ("edge.cli.bench.protect", "time of protect and verify"),
    "plating": ("edge.cli.bench.plating", "plating guard against PyBaMM"),
    "hostile": ("edge.cli.bench.hostile", "hostile plans against verify and the twin"),
    "faults": ("edge.cli.bench.faults", "the fault catalogue on the twin"),
    "reaction": ("edge.cli.bench.reaction", "from a safety-tier value to the write that answers it"),
    "duty": ("edge.cli.bench.duty", "long duties with seasons on the twin"),
    "binning": ("edge.cli.bench.binning", "binning of many modules"),
    "command": ("edge.cli.bench.command", "command to reply, and to the first register write"),
    "kills": (
        "edge.cli.bench.kills",
        "broker and daemon killed at random: acknowledged commands that are lost",
    ),
    "fuzz": ("edge.cli.bench.fuzz", "hostile commands against the contract and over a broker"),
    "outage": ("edge.cli.bench.outage", "hours without a broker, and what arrives afterwards"),
    "commissioning": ("edge.cli.bench.commissioning", "faults found in a wired site, healthy ones passed"),
    "flood": ("edge.cli.bench.flood", "hostile traffic on the command topic"),
}


class BenchGroup(LazyGroup):
    """The benchmarks, imported only when asked for."""

    table = BENCHES


app = typer.Typer(cls=BenchGroup, add_completion=False, no_args_is_help=True)


@app.callback()
def root() -> None:
    """Benchmarks; `--json -` prints pure JSON on stdout, logs go to stderr."""
