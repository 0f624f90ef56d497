"""What is wrong with a site file, as values with a place and a remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from reconf.errors import ConfigError

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list indices from the top of the file down to a value."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a site file."""

    file: str
    line: int
    """Counted from 1."""
    where: str
    """Keys down to the value, e.g. `strings[0].converter.unit_id`."""
    found: str
    allowed: str
    """What may stand there, or what to do."""

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"{self.file}:{self.line}: {where}found {self.found}; allowed: {self.allowed}"


@dataclass(frozen=True, slots=True)
class Complaint:
    """A finding before its line is known."""

    path: KeyPath
    found: str
    allowed: str


class SiteFileError(ConfigError):
    """A site file is wrong; the message lists everything that is, line by line."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        super().__init__("\n".join(map(str, findings)))


def dotted(path: KeyPath) -> str:
    """`("strings", 0, "name")` -> `strings[0].name`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text
