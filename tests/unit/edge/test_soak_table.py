"""The table of long campaigns: every command exists, and a campaign that fails is told."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from edge import soak
from edge.cli.main import app
from edge.soak import CAMPAIGNS, Campaign, chosen, run


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda c: c.name)
def test_command_line_understands_every_campaign(campaign: Campaign) -> None:
    command, words = typer.main.get_command(app), list(campaign.command)
    while hasattr(command, "list_commands"):
        with command.make_context("reconf", ["--help"], resilient_parsing=True) as context:
            name = words.pop(0)
            command = command.get_command(context, name)
            assert command is not None, f"no command {name}"
    parsed = command.make_context("reconf", words)  # raises on an option or a value it does not know
    assert "-" in parsed.params.values(), "its figures go to stdout"
    assert campaign.told


def test_names_choose_and_names_that_fit_nothing_are_refused() -> None:
    assert [c.name for c in chosen(["demo"])] == ["demo"]
    assert len(chosen([])) == len(CAMPAIGNS) + 1
    result = CliRunner().invoke(app, ["soak", "--only", "nonesuch"])
    assert result.exit_code == 2
    listed = CliRunner().invoke(app, ["soak", "--list"])
    assert listed.exit_code == 0
    assert all(c.name in listed.stdout for c in CAMPAIGNS)


SCHEMA = ("check", "--schema")


@pytest.mark.parametrize(
    ("campaign", "ok", "word"),
    [
        (Campaign("good", SCHEMA, "", lambda f: "properties" in f, ("title",)), True, ""),
        (Campaign("bad", SCHEMA, "", lambda f: "nonesuch" in f, ("title",)), False, ""),
        (Campaign("key", SCHEMA, "", lambda f: f["nonesuch"] > 0, ("title",)), False, "nonesuch"),
        (Campaign("dead", ("check", "nonesuch.yaml"), "", lambda _: True, ()), False, "exit 2"),
    ],
    ids=lambda c: c.name if isinstance(c, Campaign) else "",
)
def test_a_campaign_that_fails_is_told_and_the_exit_code_says_so(
    campaign: Campaign, ok: bool, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run(campaign)
    assert outcome.ok is ok
    assert word in outcome.text
    monkeypatch.setattr(soak, "CAMPAIGNS", (campaign,))
    result = CliRunner().invoke(app, ["soak", "--only", campaign.name, "--json", "-"])
    assert result.exit_code == (0 if ok else 1)
    assert json.loads(result.stdout.splitlines()[-1])[0]["ok"] is ok
