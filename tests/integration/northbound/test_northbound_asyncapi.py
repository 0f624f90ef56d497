"""The AsyncAPI document, read by the parser of its own project."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edge.northbound.schemas import CHANNELS, asyncapi

OUTSIDE = Path(__file__).resolve().parents[2] / "outside" / "asyncapi"
ERROR = 0
pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("asyncapi")]


@pytest.fixture(scope="module")
def parser() -> Path:
    """The parser; installed when it is missing, from the locked list."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm is not installed; `make setup-test` installs it")
    if not (OUTSIDE / "node_modules" / "@asyncapi").is_dir():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        subprocess.run(command, cwd=OUTSIDE, check=True, capture_output=True, timeout=200)
    return OUTSIDE / "validate.js"


def parsed(parser: Path, document: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        ["node", str(parser)],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_document_is_valid_and_whole(parser: Path) -> None:
    found = parsed(parser, asyncapi("1.2.3"))
    assert [d for d in found["diagnostics"] if d["severity"] == ERROR] == []
    assert found["channels"] == [c.address for c in CHANNELS]
    assert sorted(found["operations"]) == sorted(f"{c.direction}_{c.key}" for c in CHANNELS)


def test_the_parser_would_notice(parser: Path) -> None:
    document = asyncapi("1.2.3")
    document["operations"]["receive_command"]["action"] = "obey"
    errors = [d["path"] for d in parsed(parser, document)["diagnostics"] if d["severity"] == ERROR]
    assert any("receive_command" in path for path in errors), errors
