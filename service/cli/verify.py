"""The command ``verify``: reads everything that a study consists of, and says what is damaged and what mends it."""

from __future__ import annotations

import dataclasses
from collections import Counter

import typer

from service.cli.console import FAILED, JsonOption, StudyArgument, console, example, print_json, study_at

STYLES = {"damaged": "bold red", "not checksummed": "yellow"}

commands = typer.Typer()


@commands.command(epilog=example("t1t2 verify studies/quickstart --json"))
def verify(study: StudyArgument, as_json: JsonOption = False) -> None:
    """Check that no file of a study is damaged.

    Reads tables, shards, checkpoints and JSON files, compares them with their checksums, and says what mends what is
    damaged. Changes nothing. The exit code is 0 if all is sound, 1 if something is damaged.
    """
    from service.client.verification import verify_study

    screen = console()
    files = []
    for found in verify_study(study_at(study)):
        files.append(found)
        if not as_json and found.verdict != "sound":
            reason = f" ({found.reason})" if found.reason else ": written by an earlier version"
            screen.print(
                f"{found.path}: {found.verdict}{reason}", style=STYLES[found.verdict], markup=False, soft_wrap=True
            )
            if found.repair:
                screen.print(f"  repair: {found.repair}", markup=False, soft_wrap=True)
    counts = Counter(found.verdict for found in files)
    if as_json:
        print_json({"sound": not counts["damaged"], "files": [dataclasses.asdict(found) for found in files]})
    else:
        screen.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()), markup=False, soft_wrap=True)
    if counts["damaged"]:
        raise typer.Exit(FAILED)
