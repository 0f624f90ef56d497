"""Re-binning against a running daemon over real Modbus: propose, sign, swap by swap, resume, roll back."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "southbound"))
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from daemon_rig import Field, daemon_on, field_of, order, put_down, until
from southbound_rig import attached
from typer.testing import CliRunner
from yard_site import site_text

from edge import rebin
from edge.cli.main import app
from edge.core_values import SetMode
from edge.rebin_apply import Guide, JobError
from edge.rebin_door import DaemonDoor
from edge.rebin_job import Job, checked, digest_of, engineers, load_job, save_job
from edge.store.store import Store
from reconf.config import load_site
from reconf.rebinning.swap import Direction
from reconf.sequences import SiteMode
from reconf.twin.moving import swap_modules

pytestmark = pytest.mark.timeout(240)


class Rack:
    """The twin, its daemon and the files, and a person whose hands reach into the twin."""

    def __init__(self, twin: Field, folder: Path, file: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.twin, self.folder, self.file, self.loop = twin, folder, file, loop
        self.said: list[str] = []
        self.volts = 0.4
        self.locked = True
        self.at_step: list[str] = []
        """What happens at each step in turn: swap, nothing, wrong, pull, plug, interrupt."""
        self.places: tuple[str, ...] = ()
        self.restarts = 0
        self._stack = AsyncExitStack()
        self.made = None

    async def start(self) -> None:
        site = attached(load_site(self.file), self.twin.server)
        self.made = await self._stack.enter_async_context(
            daemon_on(self.twin, state_dir=self.folder, site=site)
        )
        await until(self.made, lambda v: v.input.image.modules.answered.all())

    async def stop(self) -> None:
        await self._stack.aclose()

    def in_loop(self, work):
        """Do something in the twin's own loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(60)

    # ---- the person ------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        self.said.append(text)
        if text.startswith("Step ") and " of " in text:
            self.places = tuple(text.split(": ", 1)[1].split(" ", 1)[1].split(" and "))

    def confirm(self, question: str) -> bool:
        self.said.append(question)
        return self.locked if "locked" in question else True

    def number(self, question: str) -> float:
        self.said.append(question)
        return self.volts

    def wait(self, text: str) -> None:
        self.said.append(text)
        if "daemon anew" in text:

            async def again() -> None:
                await self.stop()
                await self.start()

            self.restarts += 1
            self.in_loop(again)
            return
        happens = self.at_step.pop(0) if self.at_step else "swap"
        if happens == "interrupt":
            raise KeyboardInterrupt
        unit = self.twin.server.faults.unit(f"line-{self.places[0][0].lower()}", int(self.places[0][1]))

        async def act() -> None:
            if happens in ("swap", "plug"):
                unit.silent = False
            if happens == "swap":
                swap_modules(self.twin.bank, *self.places)
            if happens == "wrong":
                swap_modules(self.twin.bank, "A1", "A3")
            if happens == "pull":
                unit.silent = True

        self.in_loop(act)


def key_files(folder: Path) -> tuple[Path, str]:
    import base64

    key = Ed25519PrivateKey.generate()
    path = folder / "engineer.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return path, base64.b64encode(key.public_key().public_bytes_raw()).decode()


def plan_document(file: Path, folder: Path, key: Path) -> dict:
    """What `rebin propose --key` gives for what the daemon has stored."""
    site = load_site(file)
    source = rebin.measured_from_state(folder, frozenset(site.topology.serials))
    labour = rebin.Labour(minutes_per_position=0.0)
    found = rebin.propose(site, source, None, rebin.Question(labour, spares=0, draws=60, confidence=0.8))
    assert found.steps
    doc = rebin.document(found, digest_of(file.read_text()), datetime.now(UTC))
    return rebin.signed(json.loads(json.dumps(doc)), key)


def serials(rack: Rack) -> dict[str, str | None]:
    nodes = DaemonDoor(rack.folder, "yard", "ana", 10.0).nodes(patient=True)
    return {label: None if node is None else node.serial for label, node in nodes.items()}


def guide_of(rack: Rack, job: Job, notes: list, patience_s: float = 20.0) -> Guide:
    """`patience_s`: how long a node that was plugged in is waited for."""
    plan = checked(job.document, job.site, engineers(job.site))
    door = DaemonDoor(rack.folder, "yard", "ana", patience_s)
    return Guide(job, plan, door, rack, keep=lambda now: save_job(rack.folder, now), note=notes.extend)


async def ready(tmp_path: Path, twin: Field, key: Path) -> tuple[Rack, Job]:
    """A daemon that has run and saved its estimates, and the job of a signed plan."""
    file, folder = tmp_path / "yard.yaml", tmp_path / "state"
    rack = Rack(twin, folder, file, asyncio.get_running_loop())
    await rack.start()
    order(rack.made, SetMode(SiteMode.STANDBY))
    await until(rack.made, lambda v: v.mode is SiteMode.STANDBY)
    await put_down(rack.made)
    document = await asyncio.to_thread(plan_document, file, folder, key)
    job = Job(document, str(file), file.read_text(), Direction.FORWARD)
    save_job(folder, job)
    return rack, job


async def test_every_swap_is_guided_checked_resumed_and_the_estimates_follow(tmp_path, monkeypatch):
    monkeypatch.setattr("edge.onsite.client.whoami", lambda: "ana")
    key, public = key_files(tmp_path)
    file = tmp_path / "yard.yaml"
    file.write_text(site_text(public))
    site = load_site(file)
    before = {p.label: p.module.serial for p in site.positions}
    async with field_of(site) as twin:
        rack, job = await ready(tmp_path, twin, key)
        try:
            steps = [s["places"] for s in job.document["steps"]]
            assert len(steps) >= 2
            saved = {s: row for s, (row, _) in read_estimates(rack.folder).items()}
            wanted = checked(job.document, site, engineers(site))
            notes: list = []

            # a person who has not locked the disconnect, or measures 80 V, does not get in
            rack.locked = False
            with pytest.raises(JobError, match="not locked"):
                await asyncio.to_thread(guide_of(rack, job, notes).run)
            assert not any(twin.closed)
            rack.locked, rack.volts = True, 80.0
            with pytest.raises(JobError, match="80 V"):
                await asyncio.to_thread(guide_of(rack, job, notes).run)
            rack.volts = 0.4

            # a module pulled, nothing in its place yet: the step stays open until it reads right
            rack.at_step = ["pull", "interrupt"]
            with pytest.raises(KeyboardInterrupt):
                await asyncio.to_thread(guide_of(rack, job, notes, patience_s=1.5).run)
            assert any("nobody answers" in text for text in rack.said)
            assert file.read_text() == job.original

            # called again: it goes on in the middle of the step, with the permit that is out
            rack.at_step = ["swap", "interrupt"]
            with pytest.raises(KeyboardInterrupt):
                await asyncio.to_thread(guide_of(rack, load_job(rack.folder), notes).run)
            assert load_job(rack.folder).verified == 1
            assert file.read_text() == job.original

            rack.at_step = []
            await asyncio.to_thread(guide_of(rack, load_job(rack.folder), notes).run)

            goal = {p.label: p.module.serial for p in load_site(file).positions}
            there = await asyncio.to_thread(serials, rack)
            assert there == goal
            assert goal != before
            assert rack.restarts == 1
            assert "# comments stay" in file.read_text()
            assert "# rack 2" in file.read_text()
            assert (tmp_path / "yard.yaml.before-rebin").read_text() == job.original
            assert sorted(notes) == sorted((s, p) for p, s in goal.items() if before[p] != s)
            assert not rack.made.maintenance
            # estimates went with the serials, not with the positions
            topology = rack.made.parts.site.topology
            now = rack.made.core.state.filter.saved()
            for serial, row in saved.items():
                assert sum(now[serial].capacity_ah) == pytest.approx(sum(row["capacity_ah"]), rel=0.01)
            assert {m.serial: m.soh_frac for m in load_site(file).modules}.keys() == set(topology.serials)
            assert wanted.signer == "ana"
            # and the site runs again with every module in its new place
            order(rack.made, SetMode(SiteMode.RUN))
            await until(rack.made, lambda v: v.mode is SiteMode.RUN)
            gates = sum("Absence of voltage" in text for text in rack.said)
            assert gates >= len(steps)
        finally:
            await rack.stop()


def read_estimates(folder: Path) -> dict:
    with Store.open(folder, read_only=True) as store:
        return store.history.estimates()


async def test_a_wrong_swap_stops_everything_and_a_rollback_leads_home(tmp_path, monkeypatch):
    monkeypatch.setattr("edge.onsite.client.whoami", lambda: "ana")
    key, public = key_files(tmp_path)
    file = tmp_path / "yard.yaml"
    file.write_text(site_text(public))
    before = {p.label: p.module.serial for p in load_site(file).positions}
    async with field_of(load_site(file)) as twin:
        rack, job = await ready(tmp_path, twin, key)
        try:
            rack.at_step = ["swap", "interrupt"]
            with pytest.raises(KeyboardInterrupt):
                await asyncio.to_thread(guide_of(rack, job, []).run)
            swap_modules(twin.bank, "A1", "A3")
            back = replace(load_job(rack.folder), direction=Direction.BACK)
            with pytest.raises(JobError, match="no state of this plan"):
                await asyncio.to_thread(guide_of(rack, back, []).run)
            swap_modules(twin.bank, "A1", "A3")
            rack.at_step = []
            await asyncio.to_thread(guide_of(rack, back, []).run)
            assert await asyncio.to_thread(serials, rack) == before
            assert file.read_text() == job.original
            assert rack.restarts == 0
            assert not rack.made.maintenance
        finally:
            await rack.stop()


def test_plans_that_are_not_signed_changed_or_stale_are_refused(tmp_path):
    key, public = key_files(tmp_path)
    file, folder = tmp_path / "yard.yaml", tmp_path / "state"
    file.write_text(site_text(public))

    run_estimates(file, folder)
    document = plan_document(file, folder, key)
    plan = tmp_path / "plan.json"

    def apply(doc, *more, code=2):
        plan.write_text(json.dumps(doc))
        args = ["rebin", "apply", str(plan), "--site", str(file), "--state-dir", str(folder), *more]
        got = CliRunner().invoke(app, args)
        assert got.exit_code == code, (got.output, got.exception)
        return got.stderr

    text = apply(document, "--dry-run", code=0)
    assert "signed by ana" in text
    assert "Step 1: swap" in text
    assert "+      - {label: A" in text
    assert not (folder / "rebin.json").exists()
    unsigned = {k: v for k, v in document.items() if k != "signature"}
    assert "NOT SIGNED" in apply(unsigned, "--dry-run", code=0)
    assert "is not signed" in apply(unsigned)
    assert "fits none" in apply({**document, "made": "2020-01-01"})
    assert "for site 'other'" in apply({**document, "site": "other"})
    file.write_text(file.read_text() + "# touched\n")
    assert "propose anew" in apply(document)
    assert "no unfinished job" in apply(document, "--rollback")


def run_estimates(file: Path, folder: Path) -> None:
    """What a daemon's state directory holds after its first minute."""
    import numpy as np

    from reconf.estimation.filter import initial_state
    from reconf.twin.observe import observe
    from reconf.twin.plant import Plant
    from reconf.twin.truth import draw_truth

    site, rng = load_site(file), np.random.default_rng(1)
    image = observe(Plant(site, draw_truth(site, rng, soc_frac=0.6)), rng, 0, 0.0)
    rows = {serial: row.to_json() for serial, row in initial_state(site, image).saved().items()}
    with Store.open(folder) as store:
        store.history.save_estimates(rows, datetime.now(UTC))
