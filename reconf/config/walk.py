"""Which model and field of the site file a path of keys leads to."""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Discriminator, Tag
from pydantic.fields import FieldInfo

from reconf.config.findings import KeyPath
from reconf.config.model import SiteFile


@dataclass(frozen=True, slots=True)
class Place:
    """What stands around one path."""

    owner: type[BaseModel] | None
    """Model whose key the path's last element is; None inside lists and free mappings."""
    field: FieldInfo | None
    """The field itself; None where the key is unknown or an index."""


def plain_path(location: tuple[Any, ...]) -> KeyPath:
    """A location of pydantic without the tags of unions and its marks of keys."""
    return tuple(k for k in location if isinstance(k, int) or (k[:1] not in "<[" and k))


def value_at(data: Any, path: KeyPath) -> Any:
    """The value at `path`, None where there is none."""
    for key in path:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def place_of(path: KeyPath, data: Any) -> Place:
    """The model and field `path` leads to, guided by the data where the file has alternatives."""
    annotation: Any = SiteFile
    place = Place(None, None)
    for key in path:
        annotation = _choose(annotation, data)
        if annotation is None:
            return Place(None, None)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(key))
            place = Place(annotation, field)
            annotation = field.annotation if field else None
        else:
            arguments = get_args(annotation)
            place, annotation = Place(None, None), arguments[-1] if arguments else None
        data = value_at(data, (key,))
    return place


def _choose(annotation: Any, data: Any) -> Any:
    """Strip Annotated and Optional, and take the branch of a tagged union that `data` belongs to."""
    tagger: Any = None
    while get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        tagger = next((m.discriminator for m in metadata if isinstance(m, Discriminator)), tagger)
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    branches = [b for b in get_args(annotation) if b is not NoneType]
    if tagger is None:
        return _choose(branches[0], data)
    wanted = tagger(data)
    for branch in branches:
        if any(isinstance(m, Tag) and m.tag == wanted for m in get_args(branch)[1:]):
            return _choose(branch, data)
    return None
