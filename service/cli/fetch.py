"""The command ``fetch``: data sets that no package carries. No other command downloads anything."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from service.cli.console import BAD_INPUT, FAILED, JsonOption, example, print_error, print_json

commands = typer.Typer()


@commands.command(epilog=example("t1t2 fetch mnist --root ~/data"))
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="mnist or fashion_mnist.")],
    root: Annotated[str, typer.Option(metavar="DIR", help="The directory that a spec names as data.root.")] = "data",
    mirror: Annotated[
        str | None, typer.Option(metavar="URL", envvar="T1T2_MIRROR", help="A server that has the files in URL/NAME/.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Download MNIST or Fashion-MNIST.

    Every file is checked against its published SHA-256. Files that are there and right are not fetched again, so the
    same command goes on after an interruption.
    """
    from trainers.config import ConfigError
    from trainers.data import fetch as source

    try:
        folder = source.fetch(name, root, mirror, progress=sys.stderr.isatty())
    except (ConfigError, source.FetchError) as error:
        print_error(error)
        raise typer.Exit(BAD_INPUT if isinstance(error, ConfigError) else FAILED) from None
    place = os.path.abspath(os.path.expanduser(root))
    files = sorted(source.SHA256[name])
    if as_json:
        print_json({"name": name, "root": place, "folder": os.path.abspath(folder), "files": files})
    else:
        print(f"{name}: {len(files)} files in {folder}")
        print(f'in a spec:\n  [data]\n  name = "{name}"\n  root = "{place}"')
