"""The command ``doctor``: the checks of :mod:`service.cli.checks`, printed as they are done."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from service.cli.console import FAILED, STUDIES, JsonOption, console, example, print_doubts, print_json

MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failed": "[bold red]failed[/]"}

commands = typer.Typer()


@commands.command(epilog=example("t1t2 doctor --spec deploy/studies/quickstart.toml"))
def doctor(
    spec: Annotated[Path | None, typer.Option(metavar="SPEC", help="Check the data set of this spec, too.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where studies are to be written.")] = Path(STUDIES),
    as_json: JsonOption = False,
) -> None:
    """Check that everything a study needs works here.

    Python, packages, torch and GPUs, Ray, disk, data sets and a tiny training; says how to repair what does not work.
    """
    from service.cli.checks import examine

    data_sets: list[tuple[str, dict[str, object]]] = [("data", {"name": "digits"})]
    if spec is not None:
        from service.spec.study_spec import load_spec

        study = load_spec(spec)
        print_doubts(study)
        data_sets.append(("data of the spec", dataclasses.asdict(study.data)))
    screen = console()
    checks = []
    for check in examine(out, data_sets):
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
