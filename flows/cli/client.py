"""``uniroute client``: the client that services load routers with."""

from __future__ import annotations

import click

from flows.cli.completion import complete_routers
from flows.cli.options import NounGroup, config_option, json_option, opened
from flows.cli.screen import show
from flows.text import counted


@click.group("client", cls=NounGroup, bare="write")
def client() -> None:
    """Write the client that services load routers with."""


@client.command("write")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--pin",
    "pins",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_routers,
    help="Version that may serve, by number, alias or digest; may be repeated.",
)
@config_option
@json_option
def write(folder: str, pins: tuple[str, ...], config: str | None, as_json: bool) -> None:
    """Write the client into FOLDER, with what it compares versions with.

    That is the public keys of the settings; without any, the digests of the versions that have an alias now. Every file
    of a version is compared before it is loaded.
    """
    from pathlib import Path

    from flows.versions.client_package import write_client_package

    with opened(config) as workspace:
        made = write_client_package(workspace, Path(folder), pins)
    keys = [one.fingerprint for one in made.trust.keys]
    data = {"folder": str(made.package), "digests": list(made.trust.digests), "keys": keys}

    def text() -> str:
        parts = [counted(len(keys), "public key")] if keys else []
        parts += [counted(len(data["digests"]), "pinned version")] if data["digests"] else []
        lines = [f"The client is in {made.package}; it serves only what it can compare with {' and '.join(parts)}."]
        lines += [f"pinned: {digest}" for digest in data["digests"]]
        return "\n".join([*lines, f"use it: put {made.package.parent} on the Python path of the service"])

    show("client.write", data, as_json=as_json, text=text)
