"""`reconf rebin apply`: a person's hands, guided step by step and checked on the wire.

The order of things is `reconf.rebinning.swap.next_act`, decided anew from what is seen after every act, so
that an interruption at any point, of the program or of the person, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, assert_never

from edge.rebin_job import Job, Plan, difference, wanted_text, write_durably
from reconf.config import load_site
from reconf.errors import ReconfError
from reconf.rebinning.steps import Step
from reconf.rebinning.swap import (
    Act,
    Direction,
    DoStep,
    Finished,
    FinishStep,
    HandsOut,
    Lost,
    NodeSeen,
    Release,
    Restart,
    Seen,
    TakeMaintenance,
    Work,
    WriteFile,
    guide,
    misfits,
    next_act,
    standing,
)

VOLTAGE_LIMIT_V = 60.0
"""Above this a string is not touched (the limit of extra-low DC voltage, IEC 61140); the daemon checks the
same by its own readings before it gives a permit."""


class JobError(ReconfError):
    """The job cannot go on; what has to be put right stands in the message."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the daemon says of the site."""

    maintenance: bool
    hands_inside: bool
    serials: Mapping[str, str]
    """By label, by the site file it has loaded."""
    open_and_low: bool
    """Every contactor reads open and every string is below 60 V."""
    text: str
    """Contactors and voltages, for people."""


class Door(Protocol):
    """The on-site door of the running daemon."""

    def status(self) -> Status:
        """How the site stands."""

    def nodes(self, *, patient: bool) -> Mapping[str, NodeSeen | None]:
        """What every module node says of itself, by label, read on the wire now.

        `patient`: a node that was just plugged in is given time to be heard.
        """

    def take(self) -> None:
        """Take the maintenance lock."""

    def inside(self, *, disconnect_locked: bool, measured_v: float) -> str:
        """Ask for a permit; empty when it is given, else why not."""

    def out(self) -> None:
        """Give the permit back."""

    def release(self) -> None:
        """Release the maintenance lock."""


class Person(Protocol):
    """Who stands in front of the rack."""

    def say(self, text: str) -> None:
        """Tell."""

    def confirm(self, question: str) -> bool:
        """Yes or no."""

    def number(self, question: str) -> float:
        """A measured value."""

    def wait(self, text: str) -> None:
        """Until done."""


class Guide:
    """Leads a person through a job; `run` returns when nothing is left to do.

    Args:
        job: what is to be done.
        plan: its plan, checked.
        door: the daemon.
        person: who does it.
        keep: puts the job onto the disk; called whenever it has gone on.
        note: called with (serial, label) of every module that has come to a new place, at the end.
    """

    def __init__(
        self,
        job: Job,
        plan: Plan,
        door: Door,
        person: Person,
        keep: Callable[[Job], None] = lambda _job: None,
        note: Callable[[Sequence[tuple[str, str]]], None] = lambda _moved: None,
    ) -> None:
        site = job.site
        start = {p.label: p.module.serial for p in site.positions}
        self.work = Work(start, plan.steps, job.direction)
        self._job, self._plan, self._door, self._person = job, plan, door, person
        self._put, self._note = keep, note
        self._plugged = False
        """A person has just said that something was plugged in."""
        self._string = {p.label: s.name for s in site.strings for p in s.positions}
        self._unit = {p.label: p.unit_id for p in site.positions}

    def run(self) -> None:
        """Until finished.

        Raises:
            JobError: a person has to put something right first; call again afterwards.
        """
        while True:
            seen = self.look()
            act = next_act(self.work, seen)
            if isinstance(act, Finished):
                self._person.say("Finished: every module is where it is to be, and the daemon knows it.")
                return
            self._do(act, seen)

    def look(self) -> Seen:
        """What is there now."""
        status, nodes = self._door.status(), self._door.nodes(patient=self._plugged)
        self._plugged = False
        read = {place: None if node is None else node.serial for place, node in nodes.items()}
        unfit: list[str] = []
        for place, node in nodes.items():
            if (
                node is not None
                and node.serial != self.work.start[place]
                and node.serial in self._plan.modules
            ):
                unfit += [f"{place}: {text}" for text in misfits(self._plan.modules[node.serial], node)]
        return Seen(
            read=read,
            in_file={p.label: p.module.serial for p in load_site(self._job.site_file).positions},
            in_daemon=status.serials,
            maintenance=status.maintenance,
            hands_inside=status.hands_inside,
            unfit=tuple(unfit),
            verified=self._job.verified,
        )

    def _do(self, act: Act, seen: Seen) -> None:
        """Perform one act."""
        match act:
            case TakeMaintenance():
                if not self._person.confirm("Take maintenance? Every string is left, power ends."):
                    raise JobError("maintenance was not taken: nothing has been moved")
                self._door.take()
            case DoStep(number, step):
                self._step(number, step, (), seen)
            case FinishStep(number, step, findings):
                self._step(number, step, findings, seen)
            case HandsOut():
                self._door.out()
                self._keep(replace(self._job, verified=standing(self.work, seen.read).done))
                self._person.say("Read on the wire as it is to be. The permit is given back.")
            case WriteFile(arrangement):
                self._write(arrangement)
            case Restart():
                self._person.wait(
                    "The site file is written. Start the daemon anew (systemctl restart reconf): it takes up "
                    "every estimate by serial. Maintenance stays taken."
                )
            case Release():
                if not self._person.confirm(
                    "Covers closed, tools counted, lock off the disconnect: release?"
                ):
                    raise JobError("maintenance stays taken; call again to release it")
                self._door.release()
            case Lost(findings):
                raise JobError(
                    "what is read is no state of this plan; nothing goes on until it is one again:\n"
                    + "\n".join(findings)
                )
            case Finished():
                return
            case _:
                assert_never(act)

    def _keep(self, job: Job) -> None:
        """Onto the disk, then go on."""
        self._put(job)
        self._job = job

    def _step(self, number: int, step: Step, findings: Sequence[str], seen: Seen) -> None:
        """One step: the gate, the guide, the hands."""
        of = len(self.work.steps)
        places = " and ".join(step.places)
        self._person.say(f"Step {number} of {of}: {step.kind} {places}")
        for finding in findings:
            self._person.say(f"  not yet right: {finding}")
        if not seen.hands_inside:
            self._gate()
        for line in guide(step, self._string, self._unit):
            self._person.say(f"  {line}")
        self._person.wait("Done, hands and tools out? Then it is read on the wire.")
        self._plugged = True

    def _gate(self) -> None:
        """No step begins before all of this holds; the daemon decides by its own readings besides.

        Contactors read open, string voltages low, disconnect locked, absence of voltage measured.
        """
        status = self._door.status()
        if not status.open_and_low:
            raise JobError(f"not isolated yet; wait, and call again: {status.text}")
        self._person.say(f"  read now: {status.text}")
        if not self._person.confirm("DC disconnect open, locked and tagged?"):
            raise JobError("the disconnect is not locked: no step begins")
        measured_v = self._person.number(
            "Absence of voltage, measured at the work place with a tester proved before and after [V]"
        )
        if not abs(measured_v) < VOLTAGE_LIMIT_V:
            raise JobError(f"{measured_v:g} V were measured: no step begins")
        refusal = self._door.inside(disconnect_locked=True, measured_v=abs(measured_v))
        if refusal:
            raise JobError(f"no permit: {refusal}")

    def _write(self, arrangement: Mapping[str, str]) -> None:
        """The site file, in one step, only now."""
        path = Path(self._job.site_file)
        text = path.read_text()
        if self.work.direction is Direction.BACK and arrangement == self.work.start:
            after = self._job.original
        else:
            after = wanted_text(text, str(path), self._plan, arrangement)
        for line in difference(text, after):
            self._person.say(line)
        if not self._person.confirm(f"Write {path}?"):
            raise JobError("the site file was not written; call again")
        backup = path.with_name(f"{path.name}.before-rebin")
        if not backup.exists():
            write_durably(backup, self._job.original)
        write_durably(path, after)
        start = self.work.start
        self._note([(serial, place) for place, serial in arrangement.items() if start[place] != serial])
