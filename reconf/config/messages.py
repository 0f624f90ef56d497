"""What pydantic complains about, in the words of somebody who edits a site file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from reconf.config.findings import Complaint, KeyPath
from reconf.config.walk import Place, place_of, plain_path, value_at

UNITS: dict[str, tuple[str, dict[str, float]]] = {
    "_kwh": ("kWh", {"kWh": 1.0, "Wh": 1e-3, "MWh": 1e3}),
    "_wh": ("Wh", {"Wh": 1.0, "kWh": 1e3}),
    "_ah": ("Ah", {"Ah": 1.0, "mAh": 1e-3}),
    "_ohm": ("ohm", {"ohm": 1.0, "mohm": 1e-3, "uohm": 1e-6, "Ω": 1.0, "mΩ": 1e-3, "µΩ": 1e-6}),
    "_degc": ("degC", {"degC": 1.0, "°C": 1.0, "C": 1.0}),
    "_frac": ("", {"%": 0.01, "percent": 0.01}),
    "_per_a2": ("W per A squared", {"W/A2": 1.0, "W/A^2": 1.0}),
    "_w": ("W", {"W": 1.0, "kW": 1e3, "MW": 1e6, "mW": 1e-3}),
    "_v": ("V", {"V": 1.0, "mV": 1e-3, "kV": 1e3}),
    "_a": ("A", {"A": 1.0, "mA": 1e-3, "kA": 1e3}),
    "_s": ("s", {"s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}),
    "_k": ("K", {"K": 1.0}),
}
"""Unit named by the ending of a key, and what else people write."""

_QUANTITY = re.compile(r"^\s*([-+]?[\d_]*\.?\d+(?:[eE][-+]?\d+)?)\s*([^\d\s].*?)\s*$")
_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_KINDS = {
    "float_type": "a number", "float_parsing": "a number", "int_type": "a whole number",
    "finite_number": "a finite number",
    "int_parsing": "a whole number", "int_from_float": "a whole number", "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list", "dict_type": "keys and values", "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}  # fmt: skip


def complaint_of(error: ErrorDetails, data: Any) -> Complaint:
    """Translate one error of pydantic."""
    path = plain_path(error["loc"])
    place = place_of(path, data)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, place, error["input"])
    if kind == "missing":
        described = place.field.description if place.field and place.field.description else None
        return Complaint(
            path, f"nothing: key {str(path[-1])!r} is missing", described or _unit_text(path) or "any value"
        )
    found = _show(error["input"])
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        allowed = f"{words} {context[bound]:g}{_unit_text(path, ' ')}"
        return Complaint(path, found, allowed + _percent_hint(path, error["input"]))
    if kind in _KINDS:
        return Complaint(
            path, found, _KINDS[kind] + _unit_text(path, " in ") + _unit_hint(path, error["input"])
        )
    if kind == "literal_error":
        # the tag of a union knows more words than the branch that was tried
        described = place.field.description if place.field and path[-1] == "kind" else None
        expected = described or str(context.get("expected", ""))
        return Complaint(path, found, expected + _near_literal(error["input"], context))
    return Complaint(path, found, _other(kind, context, error["msg"], place))


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known word is close to `word`, else nothing."""
    known = list(known)
    match = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {match[0]!r}?" if match else ""


def _other(kind: str, context: dict[str, Any], message: str, place: Place) -> str:
    """Rarer errors."""
    match kind:
        case "string_pattern_mismatch":
            return f"text matching {context['pattern']}"
        case "too_short" | "string_too_short":
            return "something: it may not be empty"
        case "string_too_long":
            return f"at most {context['max_length']} characters"
        case "value_error":
            return message.removeprefix("Value error, ")
        case _:
            described = place.field.description if place.field else None
            return f"{message}{f' ({described})' if described else ''}"


def _unknown_key(path: KeyPath, place: Place, value: Any) -> Complaint:
    """A key the model does not have: name the nearest, and convert where only the unit differs."""
    key = str(path[-1])
    known = list(place.owner.model_fields) if place.owner else []
    same_quantity = [k for k in known if _stem(k) == _stem(key) and k != key]
    if same_quantity:
        right = same_quantity[0]
        hint = f"{right!r}{_unit_text((right,), ' in ')}{_converted(key, right, value)}"
        return Complaint(path, f"unknown key {key!r}", hint)
    return Complaint(path, f"unknown key {key!r}", f"{', '.join(known)}{near(key, known)}")


def _ending(key: str) -> str | None:
    """The ending of `key` that names a unit."""
    return next((e for e in UNITS if key.endswith(e)), None)


def _split_unit(key: str) -> tuple[str, str]:
    """(stem, last word) of a key."""
    stem, _, last = key.rpartition("_")
    return (stem, last) if stem else (key, "")


def _stem(key: str) -> str:
    """The quantity of a key without its unit."""
    stem, last = _split_unit(key)
    every = {u.lower() for _, names in UNITS.values() for u in names} | {e[1:] for e in UNITS} | {"pct"}
    return stem if last in every else key


def _converted(key: str, to_key: str, value: Any) -> str:
    """`: write 60000` for a number under a key of the same quantity in another unit."""
    ending = _ending(to_key)
    if ending is None or isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    written = _split_unit(key)[1]
    for unit, factor in UNITS[ending][1].items():
        if unit.lower() == written or (unit in ("%", "percent") and written in ("pct", "percent")):
            return f": write {to_key}: {value * factor:g}"
    return ""


def _unit_text(path: KeyPath, before: str = "") -> str:
    """The unit the last key of `path` names."""
    ending = _ending(str(path[-1])) if path else None
    return f"{before}{UNITS[ending][0]}" if ending and UNITS[ending][0] else ""


def _unit_hint(path: KeyPath, value: Any) -> str:
    """`60 kW` under a key in watts: say what to write."""
    ending = _ending(str(path[-1])) if path else None
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    if match is None:
        return " without quotes" if isinstance(value, str) and _is_number(value) else ""
    if ending is None:
        return ", without a unit"
    factor = UNITS[ending][1].get(match[2])
    if factor is None:
        return f"; the unit stands in the key, {match[2]!r} is none of {', '.join(UNITS[ending][1])}"
    return f"; the unit stands in the key: write {float(match[1]) * factor:g}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _percent_hint(path: KeyPath, value: Any) -> str:
    """A share written as percent."""
    if _ending(str(path[-1])) == "_frac" and isinstance(value, int | float) and 1.0 < value <= 100.0:
        return f"; if {value:g} is meant in percent write {value / 100.0:g}"
    return ""


def _near_literal(value: Any, context: dict[str, Any]) -> str:
    """Suggest the nearest word of a closed list."""
    words = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    return near(str(value), words)


def _show(value: Any) -> str:
    """A value as found, short."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def missing_or(data: Any, path: KeyPath) -> str:
    """What stands at `path`, as text."""
    return _show(value_at(data, path))
