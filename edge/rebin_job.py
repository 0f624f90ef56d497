"""The plan of a re-binning and the unfinished job on disk.

The job keeps the signed plan, the direction, and the site file as it was.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge.files import read_document
from edge.northbound.signature import signature_fits
from edge.rebin import FORMAT
from reconf.config.load import parse_site
from reconf.config.rewrite import with_modules
from reconf.errors import DataFileError, StoreError
from reconf.rebinning.steps import Step
from reconf.rebinning.swap import Direction, Work
from reconf.site import Chemistry, ModuleSpec, Site

JOURNAL = "rebin.json"
"""In the state directory while a job is not finished."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that was checked against the site."""

    document: Mapping[str, Any]
    steps: tuple[Step, ...]
    modules: Mapping[str, ModuleSpec]
    """Every module the plan moves or has moved, as the site file will describe it."""
    signer: str
    """Name of the issuer whose key it was signed with, empty where it is unsigned."""


def load_plan(path: Path) -> dict[str, Any]:
    """Read what `rebin propose --json` wrote.

    Raises:
        DataFileError: not such a file.
    """
    found = read_document(path, FORMAT, f"no plan; 'reconf rebin propose ... --json {path}' writes one")
    if not found.get("steps"):
        raise DataFileError(f"{path}: a plan without a step: nothing to do")
    return found


def checked(document: Mapping[str, Any], site: Site, public_keys: Mapping[str, str]) -> Plan:
    """The plan, for this site, with the name of who signed it.

    Args:
        document: as read.
        site: as the site file describes it before the first step.
        public_keys: keys (base64) of people who may order work, by name.

    Raises:
        DataFileError: it is for another site, names places or modules that do not fit, or its signature
            fits nobody who may order this.
    """
    if document["site"] != site.name:
        raise DataFileError(f"the plan is for site {document['site']!r}, this is {site.name!r}")
    signature, signer = document.get("signature"), ""
    if signature is not None:
        signer = next((n for n, k in public_keys.items() if k and signature_fits(document, signature, k)), "")
        if not signer:
            known = ", ".join(public_keys) or "nobody: mqtt.issuers has no engineer with a public key"
            raise DataFileError(f"the plan's signature fits none of those who may order work ({known})")
    try:
        steps = tuple(_step(s) for s in document["steps"])
        modules = {m["serial"]: _module(m, site) for m in document["modules"]}
    except (KeyError, TypeError, ValueError) as error:
        raise DataFileError(f"the plan is damaged: {error!r}") from error
    start = {p.label: p.module.serial for p in site.positions}
    after = Work(start, steps, Direction.FORWARD).arrangement(len(steps))
    for place, serial in after.items():
        old = next(p.module for p in site.positions if p.label == place)
        new = modules.get(serial)
        if new is None:
            raise DataFileError(f"the plan says nothing of module {serial!r}, which goes to {place}")
        if (new.chemistry, new.n_cells) != (old.chemistry, old.n_cells):
            raise DataFileError(
                f"{serial} ({new.chemistry}, {new.n_cells} cells) does not fit {place}, which holds "
                f"{old.chemistry} of {old.n_cells} cells"
            )
    return Plan(document, steps, modules, signer)


def _step(row: Mapping[str, Any]) -> Step:
    places, before, after = (tuple(map(str, row[k])) for k in ("places", "before", "after"))
    size = {"swap": 2, "replace": 1}[row["kind"]]
    if not len(places) == len(before) == len(after) == size:
        raise ValueError(f"a {row['kind']} has {size} places")
    return Step(row["kind"], places, before, after)


def _module(row: Mapping[str, Any], site: Site) -> ModuleSpec:
    """A module as the plan knows it; what only its node knows (trim) is taken from the site file."""
    there = next((m for m in site.modules if m.serial == row["serial"]), None)
    base = there or site.modules[0]
    return replace(
        base,
        serial=str(row["serial"]),
        chemistry=Chemistry(row["chemistry"]),
        cell_model=str(row["cell_model"]),
        n_cells=int(row["n_cells"]),
        n_parallel=int(row["n_parallel"]),
        rated_capacity_ah=float(row["rated_capacity_ah"]),
        soh_frac=float(row["soh_frac"]),
        soh_std_frac=float(row["soh_std_frac"]),
        resistance_scale=float(row["resistance_scale"]),
    )


def engineers(site: Site) -> dict[str, str]:
    """Public keys of the issuers who may order work, by name."""
    return {i.name: i.public_key for i in site.mqtt.issuers if i.role == "engineer" and i.public_key}


def wanted_text(text: str, name: str, plan: Plan, arrangement: Mapping[str, str]) -> str:
    """The site file with every module where `arrangement` has it."""
    return with_modules(text, name, {place: plan.modules[serial] for place, serial in arrangement.items()})


def difference(before: str, after: str) -> list[str]:
    """Unified diff of a site file."""
    return list(
        difflib.unified_diff(before.splitlines(), after.splitlines(), "there", "planned", lineterm="", n=1)
    )


# ---- the job on disk -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Job:
    """What is on disk while the work goes on."""

    document: Mapping[str, Any]
    site_file: str
    """Absolute path."""
    original: str
    """Text of the site file before the first step."""
    direction: Direction
    verified: int = 0
    """Steps whose result has been read on the wire."""

    @property
    def site(self) -> Site:
        """The site before the first step."""
        return parse_site(self.original, self.site_file)


def load_job(folder: Path) -> Job | None:
    """The job that is not finished, None where there is none.

    Raises:
        StoreError: it cannot be read.
    """
    path = folder / JOURNAL
    if not path.exists():
        return None
    try:
        row = json.loads(path.read_text())
        return Job(
            row["plan"], row["site_file"], row["original"], Direction(row["direction"]), int(row["verified"])
        )
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path}: the unfinished job cannot be read: {error!r}") from error


def save_job(folder: Path, job: Job) -> None:
    """Put the job onto the disk.

    Raises:
        StoreError: the disk does not take it.
    """
    row = {
        "plan": dict(job.document), "site_file": job.site_file, "original": job.original,
        "direction": job.direction.value, "verified": job.verified,
    }  # fmt: skip
    write_durably(folder / JOURNAL, json.dumps(row))


def finish_job(folder: Path, name: str) -> Path:
    """Keep the finished job under `name`; there is none to go on with any more."""
    kept = folder / name
    (folder / JOURNAL).replace(kept)
    return kept


def write_durably(path: Path, text: str) -> None:
    """Replace `path` in one step: after a power cut it holds the old text or the new one.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        Path(new.name).chmod(mode)
        Path(new.name).replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error}") from error


def digest_of(text: str) -> str:
    """SHA-256 of a site file."""
    return hashlib.sha256(text.encode()).hexdigest()
