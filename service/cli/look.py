"""The commands that look at studies, from any machine that sees the storage: ``status``, ``watch`` and ``list``."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import (
    FAILED,
    INTERRUPTED,
    STUDIES,
    JsonOption,
    StorageArgument,
    StudyArgument,
    console,
    example,
    plain_lines,
    print_json,
    study_at,
)
from service.spec.arms import ARMS

if TYPE_CHECKING:
    from service.records.progress import StudyStatus

commands = typer.Typer()


@commands.command(epilog=example("t1t2 status studies/quickstart --json"))
def status(study: StudyArgument, as_json: JsonOption = False) -> None:
    """Show how far a study is.

    Runs done by arm, rate, time left, diverged and failed runs, the driver, and what to do next.
    """
    from service.records.progress import read_status

    found = read_status(study_at(study))
    if as_json:
        print_json(found.to_dict())
        return
    from service.cli.display import progress_view

    screen = console()
    screen.print(progress_view(found))
    for wish, command in _next_commands(found).items():
        screen.print(f"{wish}  {command}", style="dim", markup=False, soft_wrap=True)


def _next_commands(found: StudyStatus) -> dict[str, str]:
    """What the user may want to do now, and the command for it."""
    if found.driven:
        return {"go on:": f"t1t2 resume {found.uri}"} if found.state == "paused" else {}
    if found.state != "completed":
        return {"no driver runs; go on:": f"t1t2 resume {found.uri}"}
    is_ours = found.planned.keys() <= ARMS.keys()  # what was imported cannot be trained again
    retry = {"train the failed runs again:": f"t1t2 retry {found.uri}"} if found.failed and is_ours else {}
    return {"results:": f"t1t2 results {found.uri}", "report:": f"t1t2 report {found.uri}", **retry}


@commands.command(epilog=example("t1t2 watch s3://bucket/studies/mnist --every 5"))
def watch(
    study: StudyArgument,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks at the storage.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, at each look.")] = False,
) -> None:
    """Watch a study live until it ends.

    From the storage alone, so from any machine that sees it. It also ends when the driver is gone, with exit code 1.
    Ctrl-C ends the watching, not the study.
    """
    from service.cli.display import live
    from service.records.progress import read_status

    uri = study_at(study)
    found = read_status(uri)
    try:
        with live(console()) as (on_progress, _):
            while True:
                if as_json:
                    print(json.dumps(found.to_dict()), flush=True)
                else:
                    on_progress(found)
                if found.finished or found.state in ("failed", "interrupted"):
                    break
                time.sleep(every)
                found = read_status(uri)
    except KeyboardInterrupt:
        print(f"no longer watching; the study is {found.state}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if found.state == "interrupted":
        print(f"no driver runs, so nothing more happens; go on with:\n  t1t2 resume {uri}", file=sys.stderr)
    if found.failed or found.state in ("failed", "interrupted"):
        raise typer.Exit(FAILED)


@commands.command("list", epilog=example("t1t2 list s3://bucket/studies"))
def list_(storage: StorageArgument = STUDIES, as_json: JsonOption = False) -> None:
    """List the studies below a storage root."""
    from service.records.progress import list_studies

    found = list_studies(storage)
    if as_json:
        print_json([item.to_dict() for item in found])
        return
    from service.cli.display import print_studies

    screen = console()
    if found:
        print_studies(screen, found)
    else:
        screen.print(f"no study below {storage}", markup=False, soft_wrap=True)
    for item in found:
        if item.error and item.state != "failed":  # a file is damaged: the study's own failure is for `status` to tell
            screen.print(plain_lines(item.error), style="red", markup=False, soft_wrap=True)
