"""What a row of the FMEA is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hazard:
    """One row of the FMEA."""

    hazard: str
    cause: str
    effect: str
    severity: int
    occurrence: int
    detection: int
    faults: tuple[str, ...]
    """Ids of the fault table (docs/faults.md)."""
    rules: tuple[str, ...]
    """Ids of verify's rules."""
    sequence: str
    """What the sequences do."""
    hardware: str
    """What hardware must do whatever software does."""
    tests: tuple[str, ...]
    """Names of tests (or benchmarks) that show it."""

    @property
    def number(self) -> int:
        """Risk priority number S * O * D."""
        return self.severity * self.occurrence * self.detection
