"""What a person sees of `reconf commission`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from edge.cli.prompt import confirm
from edge.wires.report import step_rows, verdict_text
from reconf.commissioning.outcome import Finding, StepOutcome, by_reason
from reconf.commissioning.steps import STEPS, Step

STYLE = {"pass": "green", "fail": "red", "incomplete": "yellow", "not tried": "yellow", "skipped": "yellow"}
MOST_OF_A_KIND = 8
"""Findings with one remedy that are shown; whoever has more has another problem than each of them."""


@dataclass(slots=True)
class Screen:
    """What the person sees."""

    console: Console
    bar: Progress
    yes: bool
    wall: Callable[[], float]
    task: TaskID | None = None
    title: str = ""
    started_s: float = 0.0
    expected_s: float = 0.0

    async def ask(self, step: Step, seconds: float) -> bool:
        """Show what would be written, and ask."""
        together = [s for s in STEPS if s.on_strings] if step.step == "contactor" else [step]
        for s in together:
            self._indented(Text(f"writes: {s.writes}", "cyan"), 3)
        question = f"   {step.title}: about {seconds:.0f} s. Write?"
        if self.yes:
            answer = True
        else:
            self.bar.stop()
            answer = await confirm(self.console, question, yes=False)
            self.bar.start()
        self.started_s, self.expected_s = self.wall(), seconds
        if self.task is not None:
            self.bar.reset(self.task, total=seconds)
        return answer

    def began(self, step: Step) -> None:
        """A step begins."""
        self.title, self.started_s, self.expected_s = step.title, self.wall(), 0.0
        self.task = self.bar.add_task(step.title, total=None)
        if step.writes:
            self.console.print()
            self.console.print(f"[bold]{step.title}[/]. {step.text}")

    def progress(self, what: str) -> None:
        """A step goes on."""
        if self.task is not None:
            done_s = min(self.wall() - self.started_s, 0.98 * self.expected_s)
            self.bar.update(self.task, completed=done_s, description=f"{self.title} {what}".strip())

    def ended(self, step: Step, outcome: StepOutcome) -> None:
        """A step is over: its line, then what it found."""
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
        style = STYLE[outcome.verdict.value]
        checked = f"{outcome.checked} checked" if outcome.checked else ""
        seconds = f"{outcome.seconds:.0f} s" if outcome.seconds >= 1.0 else ""
        line = f"[{style}]{outcome.verdict.value:>10}[/]  {step.title:<26} {checked:<12} {seconds:>6}"
        self.console.print(line + (f"  {outcome.text}" if outcome.text else ""), highlight=False)
        self._findings(outcome.findings)
        self._untried(outcome.untried)

    def _findings(self, findings: Sequence[Finding]) -> None:
        """What was found, those with one remedy together; the report names them all."""
        by_remedy: dict[str, list[Finding]] = {}
        for f in findings:
            by_remedy.setdefault(f.remedy, []).append(f)
        for remedy, those in by_remedy.items():
            for f in those[:MOST_OF_A_KIND]:
                where = " ".join(dict.fromkeys((f.position, f.subject))).strip()
                text = Text(where, "red" if f.fault else "yellow")
                self._indented(text.append(f": {f.found}; expected {f.expected}", "default"))
            if len(those) > MOST_OF_A_KIND:
                self._indented(Text(f"and {len(those) - MOST_OF_A_KIND} more, all in the report"))
            self._indented(Text(f"-> {remedy}"), 14)

    def _indented(self, text: Text, columns: int = 12) -> None:
        self.console.print(Padding(text, (0, 0, 0, columns)))

    def _untried(self, untried: Mapping[str, str]) -> None:
        """Reasons, each once, with those it holds for."""
        for why, who in by_reason(untried):
            self._indented(Text(f"not tried: {who}: {why}", "dim"))


def show_verdict(console: Console, found: Mapping[str, Any]) -> None:
    """The table and the last word."""
    rows = [row[:-1] for row in step_rows(found)]
    table = Table(*rows[0], title=f"Commissioning of {found['site']}", title_justify="left")
    for row in rows[1:]:
        table.add_row(row[0], row[1], f"[{STYLE[row[2]]}]{row[2]}[/]", *row[3:])
    console.print(table)
    style = {"pass": "bold green", "fail": "bold red"}.get(found["verdict"], "bold yellow")
    console.print(verdict_text(found), style=style)
