"""The command ``doctor``: the checks of :mod:`service.cli.checks`, printed as they are done."""

from __future__ import annotations

import dataclasses
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from service.cli.console import (
    FAILED,
    STUDIES,
    JsonOption,
    console,
    example,
    find_users_modules,
    print_doubts,
    print_json,
)

MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failed": "[bold red]failed[/]"}

commands = typer.Typer()


@commands.command(epilog=example("t1t2 doctor --spec deploy/studies/quickstart.toml"))
def doctor(
    spec: Annotated[
        Path | None, typer.Option(metavar="SPEC", help="Check that the study of this spec can begin here, too.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where studies are to be written.")] = Path(STUDIES),
    as_json: JsonOption = False,
) -> None:
    """Check that everything a study needs works here.

    Python, packages, torch and GPUs, Ray, disk, data sets and a tiny training; says how to repair what does not work.
    Of a spec, its modules and functions are tried, and its grid, its data and what its actors ask for are looked at.
    """
    from service.cli.checks import examine

    examined = [examine(out)]
    if spec is not None:
        from service.cli.spec_checks import examine_spec
        from service.spec.study_spec import load_spec

        find_users_modules()
        study = load_spec(spec)
        print_doubts(study)
        examined.append(examine_spec(study))
    screen = console()
    checks = []
    for check in chain(*examined):
        checks.append(check)
        if not as_json:
            screen.print(f"{MARKS[check.status]:<8} ", end="")
            screen.print(f"{check.name}: {check.found}", markup=False, soft_wrap=True)
            if check.repair:
                screen.print(f"         repair: {check.repair}", markup=False, soft_wrap=True)
    broken = [check for check in checks if check.status == "failed"]
    if as_json:
        print_json({"ok": not broken, "checks": [dataclasses.asdict(check) for check in checks]})
    elif not broken:
        screen.print("everything that a study needs works here")
    if broken:
        raise typer.Exit(FAILED)
