"""Reading a site file: YAML, models, cross-checks; every finding at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reconf.config.build import build_site
from reconf.config.checks import cross_check
from reconf.config.draft import read_draft
from reconf.config.findings import Finding, SiteFileError, dotted
from reconf.config.model import SiteFile
from reconf.config.source import Source, read_source
from reconf.errors import ConfigError
from reconf.shipped import find_site_file
from reconf.site import Site


def load_site(path: Path | str) -> Site:
    """Read a site file (a path, or the name of a shipped one such as `demo`).

    Raises:
        SiteFileError: the file is wrong; carries every finding.
        ConfigError: there is no such file, or it is not text.
    """
    file = find_site_file(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    return parse_site(text, str(file))


def parse_site(text: str, name: str) -> Site:
    """Read the text of a site file called `name`.

    Raises:
        SiteFileError: the text is wrong; carries every finding.
    """
    source = read_source(text)
    if source.complaints:
        raise SiteFileError(tuple(_sorted(_yaml_findings(source, name))))
    draft, complaints = read_draft(source.data)
    complaints += cross_check(draft)
    if complaints or draft.model is None:
        found = {
            Finding(name, source.line_of(c.path), dotted(c.path), c.found, c.allowed) for c in complaints
        }
        raise SiteFileError(tuple(_sorted(found)))
    return build_site(draft.model, source_file=name)


def site_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a site file, for editors."""
    schema = SiteFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Site file"}


def _yaml_findings(source: Source, name: str) -> list[Finding]:
    """Findings of the YAML itself."""
    return [Finding(name, line, dotted(c.path), c.found, c.allowed) for line, c in source.complaints]


def _sorted(findings: set[Finding] | list[Finding]) -> list[Finding]:
    """In the order of the file."""
    return sorted(findings, key=lambda f: (f.line, f.where, f.found))
