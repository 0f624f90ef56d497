"""The reference of site files as Markdown, generated from the models."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from reconf.config.model import (
    Allocator,
    Bus,
    Converter,
    Economics,
    Fallback,
    IoInputs,
    IoOutputs,
    IoPoint,
    IoUnit,
    LimitOverride,
    ModuleType,
    PositionException,
    PositionGroup,
    RtuGateway,
    ScheduleStep,
    SinglePosition,
    SiteFile,
    String,
    TcpGateway,
    Thermal,
    Timing,
    Twin,
)
from reconf.config.model_links import Issuer, Mqtt, Sparkplug, SunSpec

SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("top level", SiteFile),
    ("gateways[] of kind tcp", TcpGateway),
    ("gateways[] of kind rtu", RtuGateway),
    ("bus", Bus),
    ("module_types.NAME", ModuleType),
    ("strings[]", String),
    ("strings[].converter", Converter),
    ("strings[].positions[] with count: a run of positions", PositionGroup),
    ("strings[].positions[].exceptions.N", PositionException),
    ("strings[].positions[] without count: one position", SinglePosition),
    ("limits.CHEMISTRY[]", LimitOverride),
    ("timing", Timing),
    ("economics", Economics),
    ("allocator", Allocator),
    ("mqtt", Mqtt),
    ("mqtt.issuers[]", Issuer),
    ("sunspec", SunSpec),
    ("sparkplug", Sparkplug),
    ("fallback", Fallback),
    ("fallback.schedule[]", ScheduleStep),
    ("thermal", Thermal),
    ("site_io[]", IoUnit),
    ("site_io[].inputs", IoInputs),
    ("site_io[].outputs", IoOutputs),
    ("site_io[].inputs.SIGNAL, site_io[].outputs.SIGNAL", IoPoint),
    ("twin", Twin),
)


def reference() -> str:
    """Every key of a site file: what it may be, its default, what it means."""
    lines: list[str] = []
    for title, model in SECTIONS:
        text = (model.__doc__ or "").strip().split("\n", 1)[0]
        lines += [f"### {title}", "", text, "", "| key | allowed | default | |", "|---|---|---|---|"]
        lines += [_row(name, info) for name, info in model.model_fields.items()]
        lines.append("")
    return "\n".join(lines)


def _row(name: str, info: FieldInfo) -> str:
    """One key."""
    bounds = "".join(_bound(m) for m in info.metadata)
    return f"| `{name}` | {_kind(info.annotation)}{bounds} | {_default(info)} | {info.description or ''} |"


def _default(info: FieldInfo) -> str:
    """The default; a required key says so."""
    if info.is_required():
        return "required"
    value: Any = info.default
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return "see below"
    if value is None:
        return "not set"
    if value in ("", [], {}):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(annotation: Any) -> str:  # noqa: PLR0911 - one line for each kind of annotation
    """An annotation in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0]) + "".join(_bound(m) for m in arguments[1:])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(a) for a in arguments if a is not NoneType))
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"mapping of {_kind(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "keys below"
    return {float: "number", int: "whole number", str: "text", bool: "true or false"}.get(annotation, "value")


_SIGNS: dict[type, tuple[str, str]] = {Gt: (">", "gt"), Ge: (">=", "ge"), Lt: ("<", "lt"), Le: ("<=", "le")}


def _bound(metadata: Any) -> str:
    """A bound in words."""
    if isinstance(metadata, FieldInfo):
        return "".join(_bound(m) for m in metadata.metadata)
    if type(metadata) in _SIGNS:
        sign, name = _SIGNS[type(metadata)]
        return f" {sign} {getattr(metadata, name):g}"
    if isinstance(metadata, MaxLen):
        return f", at most {metadata.max_length} characters"
    if isinstance(metadata, MinLen):
        return ", not empty" if metadata.min_length == 1 else f", at least {metadata.min_length}"
    return ""
