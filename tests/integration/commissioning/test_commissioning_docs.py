"""docs/commissioning.md: every command is run, or at least parses, and prints what the page says."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parent))
from pallet_maker import make_folder
from site_states import aged_state

from edge.cli.main import COMMANDS, app, load
from reconf.config import load_site

PAGE = Path(__file__).resolve().parents[3] / "docs" / "commissioning.md"


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def commands():
    """(command, lines that stand below it) of every console block, in the order of the page."""
    found = []
    for block in blocks("console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def words(line):
    return " ".join(line.split())


def missing(expected, shown):
    """First line of `expected` that does not come, in order; `...` stands for any lines."""
    at = 0
    for line in map(words, expected):
        if line == "...":
            continue
        begins = line.endswith("...")
        while at < len(shown) and not (shown[at].startswith(line[:-3]) if begins else shown[at] == line):
            at += 1
        if at == len(shown):
            return line
        at += 1
    return None


@pytest.mark.timeout(300)  # about 15 s of machine time; the runner may be shared
def test_every_command_prints_what_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    make_folder(tmp_path / "pallet")
    for command, expected in commands():
        if command.startswith("reconf rebin propose") and not Path("state").exists():
            aged_state(load_site("plan/yard.yaml"), Path("state"), years=3.0)
        name, *args = shlex.split(command)
        assert name == "reconf"
        got = CliRunner().invoke(app, args)
        assert got.exit_code == 0, (command, got.output, got.exception)
        if "pki signer" in command:
            (key,) = re.findall(r"[A-Za-z0-9+/]{43}=", got.output)
            Path("ana.pub").write_text(key)
        shown = [words(line) for line in (got.stdout + "\n" + got.stderr).splitlines()]
        assert missing(expected, shown) is None, (missing(expected, shown), command, got.output)


def test_commands_that_need_a_rack_at_least_parse():
    lines = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) >= 10
    for line in filter(None, lines):
        name, command, *args = shlex.split(line)
        assert name == "reconf"
        found = load(*COMMANDS[command][:1], command)
        if command == "rebin":
            sub, *args = args
            found = found.commands[sub]
        found.make_context(command, args)  # raises on options that are not there
