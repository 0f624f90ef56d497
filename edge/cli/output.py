"""What every command does alike: JSON to a file or stdout, errors with an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from reconf.errors import ReconfError

BAD_INPUT = 2
"""Exit code for a file or an option that is wrong."""


def stderr() -> Console:
    """Where people are spoken to while stdout carries data."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def write_json(target: str, document: Mapping[str, Any]) -> None:
    """Write `document` to a path, or to stdout for `-`."""
    text = json.dumps(document, indent=2, allow_nan=False, default=float)
    if target == "-":
        sys.stdout.write(text + "\n")
    else:
        Path(target).write_text(text + "\n")


@contextmanager
def input_errors() -> Iterator[None]:
    """Turn an error of the input, or of a file that cannot be written, into its message and exit code 2."""
    try:
        yield
    except ReconfError as error:
        stderr().print(str(error), style="red", markup=False)
        raise typer.Exit(BAD_INPUT) from error
    except OSError as error:
        place = error.filename if error.filename is not None else "file"
        stderr().print(f"{place}: {error.strerror or error}", style="red", markup=False)
        raise typer.Exit(BAD_INPUT) from error
