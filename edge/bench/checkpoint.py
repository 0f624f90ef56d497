"""Long runs that stop when their budget is used up and go on from a file, to the last bit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Protocol, TypeVar

from reconf.errors import DataFileError


class Keyed(Protocol):
    """A run on its way."""

    key: str
    """What was asked: a checkpoint only continues the very same."""


RunT = TypeVar("RunT", bound=Keyed)


def load(path: Path | None, kind: type[RunT], key: str) -> RunT | None:
    """What `write` put into `path` for the same `key`; None where there is no such file yet.

    Raises:
        DataFileError: the file holds something else, or was written for another `key`.
    """
    if path is None or not path.exists():
        return None
    try:
        # a file that this very bench has written, named on its command line
        found = pickle.loads(path.read_bytes())  # noqa: S301
    except (OSError, pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError) as error:
        raise DataFileError(f"{path}: no checkpoint can be read here: {error}") from error
    if not isinstance(found, kind) or found.key != key:
        raise DataFileError(f"{path}: a checkpoint of something else; remove it or name another")
    return found


def write(path: Path, run: Keyed) -> None:
    """Write the checkpoint, whole or not at all."""
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_bytes(pickle.dumps(run))
    partial.replace(path)
