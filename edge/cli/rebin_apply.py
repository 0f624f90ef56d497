"""The shell of `reconf rebin apply`: plan, dry run, person at a terminal, passports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import typer

from edge.cli.output import stderr
from edge.files import read_bytes
from edge.rebin_apply import Guide, JobError
from edge.rebin_door import DaemonDoor
from edge.rebin_job import (
    Job,
    Plan,
    checked,
    difference,
    digest_of,
    engineers,
    finish_job,
    load_job,
    load_plan,
    save_job,
    wanted_text,
)
from reconf.config import load_site
from reconf.config.load import parse_site
from reconf.errors import DataFileError
from reconf.rebinning.swap import Direction, Work, guide
from reconf.shipped import find_site_file

EXIT_STOPPED = 1
"""The job is not finished; call again."""


class Terminal:
    """A person at a terminal (`edge.rebin_apply.Person`)."""

    def say(self, text: str) -> None:
        """Tell."""
        stderr().print(text, markup=False)

    def confirm(self, question: str) -> bool:
        """Yes or no; no answer is no."""
        return typer.confirm(question, err=True)

    def number(self, question: str) -> float:
        """A measured value."""
        return float(typer.prompt(question, type=float, err=True))

    def wait(self, text: str) -> None:
        """Until Enter."""
        typer.prompt(f"{text} [Enter]", default="", show_default=False, err=True)


class Apply:
    """One call of the command."""

    def __init__(
        self, site: Path, name: str, folder: Path, *, trust: Path | None, inventory: Path | None, by: str
    ) -> None:
        self._file = Path(find_site_file(site)).resolve()
        self._name, self._folder = name, folder
        self._trust, self._inventory, self._by = trust, inventory, by
        self._person = Terminal()

    def run(self, path: Path | None, *, dry_run: bool, rollback: bool) -> None:
        """From the plan to the end of the work.

        Raises:
            ReconfError: the plan, the files or the state directory are not right.
        """
        job = load_job(self._folder) if self._folder.is_dir() else None
        if job is None and rollback:
            raise DataFileError(f"{self._folder}: no unfinished job, nothing to take back")
        if job is None:
            job = self._new_job(path)
        elif path is not None and load_plan(path) != dict(job.document):
            raise DataFileError(f"{self._folder}: another job is unfinished; go on with it, or --rollback")
        plan = checked(job.document, job.site, self._keys(job))
        if rollback:
            job = replace(job, direction=Direction.BACK)
        self._show(job, plan)
        if dry_run:
            return
        if not plan.signer:
            raise DataFileError(
                "the plan is not signed: 'reconf rebin sign PLAN --key KEY.pem' by an engineer of the site"
            )
        save_job(self._folder, job)
        try:
            Guide(
                job, plan, DaemonDoor(self._folder, self._name, self._by), self._person,
                keep=lambda now: save_job(self._folder, now), note=self._note,
            ).run()  # fmt: skip
        except (JobError, typer.Abort, KeyboardInterrupt) as stopped:
            text = str(stopped) or "interrupted"
            self._person.say(f"{text}\nThe job is kept: call again to go on, or with --rollback.")
            raise typer.Exit(EXIT_STOPPED) from stopped
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        kept = finish_job(self._folder, f"rebin-{stamp}.json")
        self._person.say(f"The record of the job is kept as {kept}.")

    def _new_job(self, path: Path | None) -> Job:
        if path is None:
            raise DataFileError(f"{self._folder}: no unfinished job; name the plan to begin with")
        document = load_plan(path)
        text = self._file.read_text()
        if document["site_file_sha256"] != digest_of(text):
            raise DataFileError(
                f"{path}: made for another state of {self._file}; propose anew, the file has changed since"
            )
        return Job(document, str(self._file), text, Direction.FORWARD)

    def _keys(self, job: Job) -> dict[str, str]:
        """Who may order work, by name: engineers of the site file as it was, and the file of --trust."""
        keys = engineers(job.site)
        if self._trust is not None:
            keys[self._trust.name] = read_bytes(self._trust).decode().strip()
        return keys

    def _show(self, job: Job, plan: Plan) -> None:
        """Steps, and what would change in the site file."""
        site = job.site
        start = {p.label: p.module.serial for p in site.positions}
        work = Work(start, plan.steps, job.direction)
        where = {p.label: s.name for s in site.strings for p in s.positions}
        unit = {p.label: p.unit_id for p in site.positions}
        signer = f"signed by {plan.signer}" if plan.signer else "NOT SIGNED"
        say = self._person.say
        say(f"{len(plan.steps)} steps, {signer}; direction: {job.direction.value}")
        order = plan.steps if job.direction is Direction.FORWARD else [s.undone() for s in plan.steps[::-1]]
        for number, step in enumerate(order, 1):
            say(f"Step {number}: {step.kind} {' and '.join(step.places)}")
            for line in guide(step, where, unit):
                say(f"  {line}")
        now = self._file.read_text()
        goal = work.arrangement(work.goal)
        after = job.original if goal == start else wanted_text(now, str(self._file), plan, goal)
        parse_site(after, str(self._file))
        say(f"Changes of {self._file}, written after the last step only:")
        for line in difference(now, after):
            say(line)

    def _note(self, moved: Sequence[tuple[str, str]]) -> None:
        """Positions into passports."""
        if self._inventory is None:
            return
        from edge.inventory.store import Inventory

        there = {p.label: p for p in load_site(self._file).positions}
        store = Inventory.open(self._inventory)
        try:
            known = store.histories()
            rows = [
                (serial, "placed", {"site": self._name, "label": place, "gateway": there[place].gateway,
                                    "unit_id": there[place].unit_id})
                for serial, place in moved
                if serial in known
            ]  # fmt: skip
            store.append(rows, datetime.now(UTC))
            self._person.say(f"{len(rows)} positions noted in {self._inventory}")
        finally:
            store.close()
