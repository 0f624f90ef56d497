"""Verify's answer to the plans of many strings at once, string by string."""

from __future__ import annotations

import numpy as np

from edge.bench.hostile_scene import Scene
from edge.core_steps import merged
from reconf.actuation import Refused, SlotCommand, Violation
from reconf.verify import History, verify

FIRST = frozenset({"duty_range", "mode_value", "negative_limit"})
"""Rules that stop verify from looking any further."""


def refusals(scene: Scene, steps: tuple[SlotCommand, ...]) -> tuple[frozenset[str], ...]:
    """Rules that refuse each string in any step; strings are independent, so one pass judges them all."""
    topology = scene.site.topology
    of_subject = {s.name: k for k, s in enumerate(scene.site.strings)}
    of_subject |= {serial: int(topology.string_of[m]) for m, serial in enumerate(topology.serials)}
    broken: list[set[str]] = [set() for _ in range(topology.n_strings)]
    history = History(hold_s=scene.site.timing.interval_s)
    in_force = scene.in_force
    for step in steps:
        violations = _asked(scene, in_force, step, history)
        if violations and all(v.rule in FIRST for v in violations):
            # the others have not been looked at: once more without the strings that stopped it
            odd = np.zeros(topology.n_strings, dtype=np.bool_)
            odd[[of_subject[v.subject] for v in violations]] = True
            rest = merged(step, in_force, odd, odd[topology.string_of])
            violations += _asked(scene, in_force, rest, history)
        for violation in violations:
            if violation.subject == "site":
                for rules in broken:
                    rules.add(violation.rule)
            else:
                broken[of_subject[violation.subject]].add(violation.rule)
        history = history.after_step(in_force, step)
        in_force = step
    return tuple(frozenset(rules) for rules in broken)


def _asked(scene: Scene, in_force: SlotCommand, step: SlotCommand, history: History) -> tuple[Violation, ...]:
    """Violations of one step."""
    answer = verify(
        scene.site, scene.image, scene.estimate, scene.envelope, in_force, step,
        dt_s=scene.site.timing.tick_s, history=history,
    )  # fmt: skip
    return answer.violations if isinstance(answer, Refused) else ()
