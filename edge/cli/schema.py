"""`reconf schema`: schemas of the interfaces, generated from the models that run."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def root() -> None:
    """Schemas of the interfaces."""


@app.command("json")
def json_schema(
    folder: Annotated[Path | None, typer.Option("--write", help="write one file per payload here")] = None,
) -> None:
    """JSON Schemas of every MQTT payload."""
    from edge.northbound.schemas import json_schemas, write_schemas

    if folder is None:
        print(json.dumps(json_schemas(), indent=2))
        return
    for path in write_schemas(folder):
        print(path)


@app.command("asyncapi")
def asyncapi_document() -> None:
    """AsyncAPI 3 document of the plain MQTT interface."""
    from edge.northbound.schemas import asyncapi

    print(json.dumps(asyncapi(installed_version()), indent=2))


@app.command("site")
def site() -> None:
    """JSON Schema of site files."""
    from reconf.config import site_schema

    print(json.dumps(site_schema(), indent=2))


@app.command("tables")
def tables() -> None:
    """Actions and reasons of refusal as Markdown."""
    from edge.northbound.schemas import tables as build

    print(build(), end="")


def installed_version() -> str:
    """Version of this installation, `0` in a bare checkout."""
    try:
        return version("reconf")
    except PackageNotFoundError:
        return "0"
