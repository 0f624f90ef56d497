"""Schemas and tables in the docs are those of the running models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from test_command_contract import EXAMPLES, make

from edge.northbound.envelope import Envelope
from edge.northbound.schemas import CHANNELS, asyncapi, command_schema, json_schemas, tables

DOCS = Path(__file__).resolve().parents[4] / "docs" / "protocols"


def test_schema_files_are_current() -> None:
    wanted = json_schemas()
    assert {f.name for f in (DOCS / "schemas").glob("*.json")} == set(wanted)
    for name, schema in wanted.items():
        found = json.loads((DOCS / "schemas" / name).read_text())
        assert found == schema, f"{name} is old: `reconf schema json --write docs/protocols/schemas`"


def test_tables_in_the_text_are_current() -> None:
    text = (DOCS / "mqtt.md").read_text()
    assert tables() in text, "docs/protocols/mqtt.md is old: put the output of `reconf schema tables` into it"


@pytest.mark.parametrize("action", list(EXAMPLES))
def test_command_schema_takes_what_the_contract_takes(action: str) -> None:
    validator = Draft202012Validator(command_schema())
    validator.validate(make(action))
    assert not validator.is_valid(make(action, args={"nonsense": 1}))
    assert not validator.is_valid(make(action, extra=1))


def test_asyncapi_document_hangs_together() -> None:
    document = asyncapi("1.2.3")
    assert document["asyncapi"] == "3.0.0"
    assert set(document["channels"]) == {c.key for c in CHANNELS}

    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [str(node["$ref"])] if "$ref" in node else []
            return own + [r for v in node.values() for r in references(v)]
        return [r for v in node for r in references(v)] if isinstance(node, list) else []

    found = references(document)
    assert len(found) > 30
    for reference in found:
        node = document
        for key in reference.removeprefix("#/").split("/"):
            assert key in node, reference
            node = node[key]


def test_every_field_of_a_command_is_described() -> None:
    assert all(f.description for name, f in Envelope.model_fields.items())
