"""Schemas of the plain MQTT interface, generated from the models: JSON Schema and AsyncAPI 3."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from edge.northbound.actions import ARGS, MAY
from edge.northbound.contract import REASONS
from edge.northbound.envelope import Envelope
from edge.northbound.payloads import (
    Availability,
    EventPayload,
    GapPayload,
    Heartbeat,
    ModulePayload,
    Reply,
    Status,
    StringPayload,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI_VERSION = "3.0.0"


@dataclass(frozen=True, slots=True)
class Channel:
    """One topic of the interface."""

    key: str
    address: str
    model: type[BaseModel]
    direction: Literal["send", "receive"]
    """Seen from the site."""
    retained: bool
    text: str


CHANNELS: tuple[Channel, ...] = (
    Channel("status", "reconf/{site}/status", Status, "send", True, "How the site is; at every interval."),
    Channel(
        "availability", "reconf/{site}/availability", Availability, "send", True,
        "online while the edge is connected; the broker itself says offline when it is not (will).",
    ),
    Channel("string", "reconf/{site}/string/{string}", StringPayload, "send", False, "One string."),
    Channel("module", "reconf/{site}/module/{serial}", ModulePayload, "send", False, "One module."),
    Channel("event", "reconf/{site}/event", EventPayload, "send", False, "Transitions, each told once."),
    Channel("gap", "reconf/{site}/gap", GapPayload, "send", False, "Notice of telemetry that was lost."),
    Channel("reply", "reconf/{site}/reply", Reply, "send", False, "The answer to a command, to its id."),
    Channel("command", "reconf/{site}/command", Envelope, "receive", False, "Commands; never retained."),
    Channel(
        "emergency_stop", "reconf/{site}/emergency_stop", Envelope, "receive", False,
        "Emergency stops and nothing else, heard over a connection of their own; never retained.",
    ),
    Channel("heartbeat", "reconf/{site}/heartbeat", Heartbeat, "receive", False, "Sign of life from SCADA."),
)  # fmt: skip


def command_schema(actions: Sequence[str] = tuple(ARGS)) -> dict[str, Any]:
    """Schema of a command: the envelope, with the arguments that belong to each action."""
    schema = Envelope.model_json_schema()
    definitions: dict[str, Any] = schema.pop("$defs", {})
    rules = []
    for action in actions:
        model = ARGS[action]
        own = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= own.pop("$defs", {})
        definitions[model.__name__] = own
        then: dict[str, Any] = {"properties": {"args": {"$ref": f"#/$defs/{model.__name__}"}}}
        if action != "emergency_stop":
            then["required"] = ["sequence"]
        rules.append({"if": {"properties": {"action": {"const": action}}}, "then": then})
    schema["properties"]["action"] = {"enum": list(actions), "description": "what is to be done"}
    return schema | {"$defs": definitions, "allOf": rules}


def schema_of(channel: Channel) -> dict[str, Any]:
    """JSON Schema of a channel's payload."""
    if channel.model is Envelope:
        return command_schema(("emergency_stop",) if channel.key == "emergency_stop" else tuple(ARGS))
    return channel.model.model_json_schema(
        mode="serialization" if channel.direction == "send" else "validation"
    )


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema of every payload, by file name."""
    return {
        f"{c.key}.schema.json": {"$schema": DIALECT, **schema_of(c), "title": c.key, "description": c.text}
        for c in CHANNELS
    }


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema into `folder`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, schema in json_schemas().items():
        (folder / name).write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
        written.append(folder / name)
    return written


def asyncapi(version: str) -> dict[str, Any]:
    """AsyncAPI 3 document of the plain MQTT interface.

    Args:
        version: of this software.
    """
    messages: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for channel in CHANNELS:
        schemas[channel.key] = _hoisted(schema_of(channel), channel.key, schemas)
        messages[channel.key] = {
            "name": channel.key,
            "title": channel.key,
            "summary": channel.text,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{channel.key}"},
        }
        channels[channel.key] = _channel(channel)
        operations[f"{channel.direction}_{channel.key}"] = {
            "action": channel.direction,
            "channel": {"$ref": f"#/channels/{channel.key}"},
            "messages": [{"$ref": f"#/channels/{channel.key}/messages/{channel.key}"}],
            "bindings": {"mqtt": {"qos": 1, "retain": channel.retained}},
        }
    for key in ("command", "emergency_stop"):
        operations[f"receive_{key}"]["reply"] = {
            "channel": {"$ref": "#/channels/reply"},
            "messages": [{"$ref": "#/channels/reply/messages/reply"}],
        }
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "reconf site over MQTT",
            "version": version,
            "description": "Status and commands of a site. Discharge is positive; names end in their unit.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": schemas, "messages": messages},
    }


def _channel(channel: Channel) -> dict[str, Any]:
    """One channel of the AsyncAPI document."""
    described = {"site": "name of the site", "string": "name of the string", "serial": "serial of the module"}
    parameters = {k: {"description": v} for k, v in described.items() if "{" + k + "}" in channel.address}
    return {
        "address": channel.address,
        "description": channel.text,
        "messages": {channel.key: {"$ref": f"#/components/messages/{channel.key}"}},
        "parameters": parameters,
    }


def _hoisted(schema: dict[str, Any], prefix: str, into: dict[str, Any]) -> dict[str, Any]:
    """Move a schema's own definitions to the document's components, under names of their own."""
    definitions = schema.pop("$defs", {})
    for name, definition in definitions.items():
        into[f"{prefix}.{name}"] = _repointed(definition, prefix)
    moved: dict[str, Any] = _repointed(schema, prefix)
    return moved


def _repointed(node: Any, prefix: str) -> Any:
    """The same schema with references to `$defs` pointing to the components."""
    if isinstance(node, dict):
        return {
            key: f"#/components/schemas/{prefix}.{value.removeprefix('#/$defs/')}"
            if key == "$ref" and isinstance(value, str)
            else _repointed(value, prefix)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_repointed(item, prefix) for item in node]
    return node


def tables() -> str:
    """Actions and reasons of refusal as Markdown, for docs/protocols/mqtt.md."""
    lines = ["| action | arguments | roles | what it does |", "|---|---|---|---|"]
    for action, model in ARGS.items():
        fields = (
            ", ".join(f"`{n}`{'' if f.is_required() else '?'}" for n, f in model.model_fields.items())
            or "none"
        )
        roles = ", ".join(sorted(MAY[action]))
        text = (model.__doc__ or "").split("\n", 1)[0]
        lines.append(f"| `{action}` | {fields} | {roles} | {text} |")
    lines += ["", "| reason | meaning |", "|---|---|"]
    lines += [f"| `{reason}` | {text} |" for reason, text in REASONS.items()]
    return "\n".join(lines) + "\n"
