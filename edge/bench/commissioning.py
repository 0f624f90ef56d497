"""Commissioning of a whole twin site over real Modbus, healthy and with one fault of each kind built in.

A fault counts as found when the step that is there for it names the module (or line) it was built into; every
other fault told in that run is a false alarm. A healthy site must pass every step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge.modbus.pacer import Pacer
from edge.modbus.server import TwinServer
from edge.modbus.twin_control import build_fault
from edge.wires.commission import Commissioning, Options, Talk, overall
from edge.wires.looking import RackOptions
from reconf.commissioning.steps import Step
from reconf.config import load_site
from reconf.shipped import find_site_file
from reconf.site import Site
from reconf.twin.firmware import NodeBank
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

MODULE_WATCHDOG_S, STRING_WATCHDOG_S = 3.0, 1.5
"""Shorter than in operation (6 and 3 s): the same path in half the time."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    name: str
    faults: tuple[str, ...]
    expected: tuple[tuple[str, str], ...]
    """(step, subject) that must be told; everything else told as a fault is a false alarm."""


@dataclass(slots=True)
class Result:
    """What one run told."""

    case: Case
    verdict: str
    told: set[tuple[str, str]]
    seconds: float
    unsafe: int
    """Link shorts, openings under load, violations of the true state, anything left closed or inserted."""
    missed: list[tuple[str, str]] = field(default_factory=list)
    false_alarms: list[str] = field(default_factory=list)
    """Step, subject, what was said to be found."""


def cases_of(site: Site, rng: np.random.Generator) -> tuple[Case, ...]:
    """Healthy, then each kind of fault at a module drawn by `rng`."""
    drawn = rng.choice(site.topology.n_modules, 9, replace=False)
    serial = [site.topology.serials[int(i)] for i in drawn]
    gateway = site.positions[int(drawn[8])].gateway
    return (
        Case("healthy", (), ()),
        Case(
            "swapped serials", (f"swapped@{serial[0]},{serial[1]}",),
            (("identity", serial[0]), ("identity", serial[1])),
        ),
        Case(
            "reversed module", (f"reversed@{serial[2]}",), (("voltage", serial[2]), ("switch", serial[2]))
        ),
        Case("crossed leads", (f"crossed@{serial[2]}",), (("switch", serial[2]),)),
        Case("switch stuck bypassed", (f"stuck-bypassed@{serial[3]}",), (("switch", serial[3]),)),
        Case("switch stuck inserted", (f"stuck-inserted@{serial[4]}",), (("switch", serial[4]),)),
        Case(
            "switch stuck inserted, unseen by its node", (f"stuck-inserted-unseen@{serial[4]}",),
            (("switch", serial[4]),),
        ),
        Case("wrong unit id", (f"unit@{serial[5]}=150",), (("answers", serial[5]),)),
        Case("noisy line", (f"noise@{gateway}=0.02",), (("line", gateway),)),
        Case("watchdog does not act", (f"watchdog@{serial[6]}",), (("watchdog", serial[6]),)),
        Case(
            "2 K sensor offset", (f"temperature@{serial[7]}=2.0", f"gradient@{site.strings[0].name}=4.0"),
            (("temperature", serial[7]),),
        ),
    )  # fmt: skip


async def run_case(site: Site, case: Case, seed: int, time_scale: float) -> Result:
    """One site, one twin, one commissioning."""
    rng = np.random.default_rng(seed)
    bank = NodeBank(site, Plant(site, draw_truth(site, rng, soc_frac=0.6)), rng)
    rack = RackOptions(MODULE_WATCHDOG_S, STRING_WATCHDOG_S, time_scale, look_every_s=0.05)
    began = time.monotonic()
    async with TwinServer(bank, any_port=True) as server:
        for text in case.faults:
            build_fault(server, text)
        pacing = asyncio.create_task(Pacer(bank, time_scale, time.monotonic).run())
        gateways = tuple(
            replace(g, port=int(server.endpoints[g.name].rsplit(":", 1)[1])) if g.kind == "tcp"
            else replace(g, device=server.endpoints[g.name])
            for g in site.gateways
        )  # fmt: skip
        try:
            run = Commissioning(replace(site, gateways=gateways), Options(rack), Talk(ask=_agree))
            outcomes = await run.run()
            await asyncio.sleep(0.2)
        finally:
            pacing.cancel()
    told = {(step, f.subject) for step, o in outcomes.items() for f in o.findings if f.fault}
    left = bank.plant.inputs.inserted & (bank.rm1.faults.stuck != 1)
    unsafe = bank.link_shorts + bank.rc1.opened_under_load + int(bank.rc1.closed.any() or left.any())
    unsafe += sum(bank.plant.violations.by_rule.values())
    expected = set(case.expected)
    return Result(
        case, overall(outcomes).value, told, time.monotonic() - began, unsafe,
        sorted(expected - told),
        [
            f"{step}: {f.subject}: {f.found}" for step, o in outcomes.items() for f in o.findings
            if f.fault and (step, f.subject) not in expected
        ],
    )  # fmt: skip


async def _agree(_: Step, __: float) -> bool:
    return True


def run(site: str, seeds: Sequence[int], time_scale: float, only: str = "") -> dict[str, Any]:
    """Every case with every seed; figures of the campaign.

    Args:
        site: site file, or the name of a shipped one.
        seeds: each draws other modules, and where the faults are.
        time_scale: of the twin.
        only: cases whose name holds this.
    """
    loaded = load_site(find_site_file(site))
    results = [
        asyncio.run(run_case(loaded, case, seed, time_scale))
        for seed in seeds
        for case in cases_of(loaded, np.random.default_rng(seed))
        if only in case.name
    ]
    healthy = [r for r in results if not r.case.faults]
    faulty = [r for r in results if r.case.faults]
    return {
        "modules": loaded.topology.n_modules,
        "healthy_runs": len(healthy),
        "healthy_passed": sum(r.verdict == "pass" for r in healthy),
        "fault_runs": len(faulty),
        "faults_found": sum(not r.missed for r in faulty),
        "false_alarms": sum(len(r.false_alarms) for r in results),
        "unsafe": sum(r.unsafe for r in results),
        "runs": [
            {
                "case": r.case.name,
                "faults": list(r.case.faults),
                "verdict": r.verdict,
                "missed": [f"{step}: {subject}" for step, subject in r.missed],
                "false_alarms": r.false_alarms,
                "unsafe": r.unsafe,
                "seconds": round(r.seconds, 1),
            }
            for r in results
        ],
    }
