"""YAML text as plain data, together with the line of every key and value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from reconf.config.findings import Complaint, KeyPath

_MERGE = "tag:yaml.org,2002:merge"
_NODES_MAX = 200_000
"""Values a site file may unfold to; aliases of aliases can make millions out of a few lines."""


@dataclass
class Source:
    """A YAML file as read."""

    data: Any = None
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    """Line of each key or list entry, counted from 1."""
    complaints: list[tuple[int, Complaint]] = field(default_factory=list)
    """(line, complaint) of the YAML itself: syntax, duplicate keys."""

    def line_of(self, path: KeyPath) -> int:
        """Line of `path`, or of the innermost part of it that stands in the file."""
        keys = tuple(map(str, path))
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return self.lines.get(keys, 1)


def read_source(text: str) -> Source:
    """Parse `text`; what is wrong with it as YAML is in `complaints`, and then `data` may be None."""
    source = Source()
    try:
        root = YAML(pure=True).compose(text)
        if root is None:
            source.complaints.append((1, Complaint((), "an empty file", "a site file")))
            return source
        _Walk(source).visit(root, ())
        if not source.complaints:
            source.data = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        found = " ".join(str(part) for part in (error.context, error.problem) if part)
        source.complaints.append((line, Complaint((), f"broken YAML: {found}", "well-formed YAML")))
    except YAMLError as error:
        line = text[: getattr(error, "position", 0)].count("\n") + 1
        source.complaints.append((line, Complaint((), f"broken YAML: {error}", "well-formed YAML")))
    return source


class _Walk:
    """Notes the line of every node and every key that stands twice."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.seen = 0
        self.open: set[int] = set()

    def visit(self, node: Node, path: tuple[str, ...]) -> None:
        """Walk `node`, which stands at `path`."""
        self.seen += 1
        self.source.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self.open or self.seen > _NODES_MAX:
            self._complain(node, path, "an alias that never ends", "aliases to finished, small values")
            return
        self.open.add(id(node))
        if isinstance(node, MappingNode):
            self._mapping(node, path)
        elif isinstance(node, SequenceNode):
            for index, item in enumerate(node.value):
                self.visit(item, (*path, str(index)))
        self.open.discard(id(node))

    def _mapping(self, node: MappingNode, path: tuple[str, ...]) -> None:
        """Keys of one mapping."""
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, ScalarNode):
                self._complain(key_node, path, "a key that is a list or a mapping", "plain keys")
                continue
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in first:
                found = f"key {key!r} a second time, first in line {first[key]}"
                self._complain(key_node, (*path, key), found, "each key once")
                continue
            first[key] = line
            self.source.lines[*path, key] = line
            self.visit(value_node, (*path, key))

    def _complain(self, node: Node, path: tuple[str, ...], found: str, allowed: str) -> None:
        keys = tuple(int(k) if k.isdigit() else k for k in path)
        self.source.complaints.append((node.start_mark.line + 1, Complaint(keys, found, allowed)))
