"""Reading a site file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from reconf.config.build import build_site
from reconf.config.model import SiteFile
from reconf.errors import ConfigError
from reconf.shipped import find_site_file
from reconf.site import Site


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a site file."""

    file: str
    line: int
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.where}: {self.text}"


class SiteFileError(ConfigError):
    """A site file is wrong."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        super().__init__("\n".join(map(str, findings)))


def load_site(path: Path | str) -> Site:
    """Read a site file (a path, or the name of a shipped one such as `demo`).

    Raises:
        SiteFileError: with every finding.
        ConfigError: there is no such file.
    """
    file = find_site_file(path)
    raw: Any = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    try:
        model = SiteFile.model_validate(raw)
    except ValidationError as error:
        findings = (
            Finding(str(file), 0, ".".join(map(str, e["loc"])), str(e["msg"])) for e in error.errors()
        )
        raise SiteFileError(tuple(findings)) from error
    return build_site(model, source_file=str(file))


def site_schema() -> dict[str, Any]:
    """JSON Schema of a site file."""
    return SiteFile.model_json_schema()
