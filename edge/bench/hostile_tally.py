"""Counts of hostile plans, by family and in all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from edge.bench.hostile_judge import Verdict

WALLS = frozenset({"harmless", "refused_harmless", "walls"})
"""Counts of harmless plans."""


@dataclass(slots=True)
class Tally:
    """Counts so far."""

    plans: int = 0
    accepted: int = 0
    accepted_harmful: int = 0
    refused_harmful: int = 0
    harmless: int = 0
    refused_harmless: int = 0
    unfinished: int = 0
    searched: int = 0
    scenes: int = 0
    worst_accepted: float = -np.inf
    walls: Counter[str] = field(default_factory=Counter)
    """Rules that refused harmless plans."""
    let_through: Counter[str] = field(default_factory=Counter)
    """What accepted plans harmed."""
    stopped: Counter[str] = field(default_factory=Counter)
    """What refused plans would have harmed."""

    def add(self, verdict: Verdict, kind: str) -> None:
        """Count one round: `drawn`, `unfinished` (some writes never arrived) or `searched`."""
        accepted, harmful = verdict.accepted, verdict.harmful
        self.plans += accepted.size
        self.accepted += int(accepted.sum())
        self.accepted_harmful += int((accepted & harmful).sum())
        self.refused_harmful += int((~accepted & harmful).sum())
        for name, harmed in verdict.harms.items():
            self.let_through[name] += int((accepted & harmed).sum())
            self.stopped[name] += int((~accepted & harmed).sum())
        if accepted.any():
            self.worst_accepted = max(self.worst_accepted, float(verdict.severity[accepted].max()))
        self.unfinished += accepted.size * (kind == "unfinished")
        self.searched += accepted.size * (kind == "searched")
        if kind != "drawn":
            return
        wall = verdict.harmless & ~accepted
        self.harmless += int(verdict.harmless.sum())
        self.refused_harmless += int(wall.sum())
        for index in np.flatnonzero(wall):
            self.walls.update(verdict.rules[index])

    def join(self, other: Tally, *, walls: bool = True) -> None:
        """Add the counts of another part, with or without what of the harmless plans was refused."""
        for name in (f.name for f in fields(self)):
            if not walls and name in WALLS:
                continue
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, name, max(mine, theirs) if name == "worst_accepted" else mine + theirs)

    def result(self) -> dict[str, Any]:
        """The figures."""
        return {
            "plans": self.plans,
            "accepted": self.accepted,
            "accepted_harmful": self.accepted_harmful,
            "refused_harmful": self.refused_harmful,
            "harmless": self.harmless,
            "refused_harmless": self.refused_harmless,
            "refused_harmless_share": self.refused_harmless / max(self.harmless, 1),
            "unfinished": self.unfinished,
            "searched": self.searched,
            "scenes": self.scenes,
            "worst_accepted_severity": self.worst_accepted if np.isfinite(self.worst_accepted) else 0.0,
            "rules_refusing_harmless": dict(self.walls.most_common()),
            "accepted_harms": {k: n for k, n in self.let_through.most_common() if n},
            "refused_harms": {k: n for k, n in self.stopped.most_common() if n},
        }
