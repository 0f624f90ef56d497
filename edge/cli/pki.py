"""`reconf pki`: a site CA and certificates for a lab."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge.cli.check import EXIT_WRONG_FILE
from reconf.errors import ConfigError

app = typer.Typer(add_completion=False, no_args_is_help=True)
Folder = Annotated[Path, typer.Option("--dir", help="where the authority and the files are")]


@app.callback()
def root() -> None:
    """A small certificate authority for a lab, or as a pattern for a site."""


@app.command()
def init(
    folder: Folder, name: Annotated[str, typer.Option(help="name of the authority")] = "reconf site CA"
) -> None:
    """Make the authority; an existing one is kept."""
    from edge.pki import make_ca

    try:
        files = make_ca(folder, name, datetime.now(UTC))
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_WRONG_FILE) from error
    print(f"{files.certificate}\n{files.key}  (keep this one off the site)")


@app.command()
def issue(
    name: Annotated[str, typer.Argument(help="identity: the site's name for an edge, `scada`, `broker` ...")],
    folder: Folder,
    server: Annotated[list[str] | None, typer.Option(help="host name or address; makes it a server")] = None,
    days: Annotated[float, typer.Option(help="validity", min=0.01, max=3650.0)] = 397.0,
    modbus_role: Annotated[
        str, typer.Option(help="role of a Modbus/TCP Security client: observer, operator or engineer")
    ] = "",
) -> None:
    """Issue a certificate for a broker (with --server), an edge, or whoever commands."""
    from edge.pki import issue as make

    try:
        files = make(
            folder, name, datetime.now(UTC), server_names=server or (), days=days, modbus_role=modbus_role
        )
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_WRONG_FILE) from error
    print(f"{files.certificate}\n{files.key}")


@app.command()
def signer(
    name: Annotated[str, typer.Argument(help="issuer of commands")],
    folder: Folder,
    role: Annotated[
        str, typer.Option(help="observer, operator, or engineer (signs re-binning plans, capacity tests)")
    ] = "operator",
) -> None:
    """Make an Ed25519 key to sign commands with; prints the public half and the role for the site file."""
    import base64
    import os
    from typing import get_args

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    from edge.northbound.actions import Role

    roles = get_args(Role)
    if role not in roles:
        print(f"role {role!r}: one of {', '.join(roles)}", file=sys.stderr)
        raise typer.Exit(EXIT_WRONG_FILE)
    path = folder / f"{name}.sign.pem"
    key = Ed25519PrivateKey.generate()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except OSError as error:
        print(f"{path}: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_WRONG_FILE) from error
    public = base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    print(path)
    print(f"issuers: [{{name: {name}, role: {role}, public_key: {public}}}]")
