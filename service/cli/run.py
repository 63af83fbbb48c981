"""The commands ``run`` and ``resume``: a study's driver in this process, shown live, and the report at the end."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import results, submit
from service.cli.console import (
    FAILED,
    INTERRUPTED,
    STUDIES,
    ActorsOption,
    JsonOption,
    SpecArgument,
    StudyArgument,
    console,
    example,
    find_users_modules,
    print_doubts,
    print_error,
    print_json,
    study_at,
)
from service.cli.slips import YesOption, ask_about_slips
from service.errors import StorageError

if TYPE_CHECKING:
    from rich.console import Console

    from service.records.progress import StudyStatus
    from service.spec.study_spec import StudySpec

ReportOption = Annotated[bool, typer.Option("--report/--no-report", help="Write the report at the end.")]

commands = typer.Typer()


@commands.command(epilog=example("t1t2 run deploy/studies/quickstart.toml --out studies/quickstart --actors 2"))
def run(
    context: typer.Context,
    spec: SpecArgument,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Study directory or URI; by default studies/NAME.")
    ] = None,
    actors: ActorsOption = None,
    with_report: ReportOption = True,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a study here, or go on with it.

    On an embedded local Ray (or the cluster that RAY_ADDRESS names). The same command again resumes: nothing is trained
    twice. A larger number of configurations extends the study. At the end come the summary and the report.
    """
    from service.records.progress import study_uri
    from service.spec.study_spec import load_spec

    study = load_spec(spec)
    print_doubts(study)
    if actors is not None:
        study = with_actors(study, actors)
    ask_about_slips(study, yes, here="RAY_ADDRESS" not in os.environ)
    uri = out or study_uri(STUDIES, study.name)
    _run_here(study, uri, context.obj, with_report=with_report, as_json=as_json)


@commands.command(epilog=example("t1t2 resume studies/quickstart"))
def resume(
    context: typer.Context,
    study: StudyArgument,
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="Start the driver on the cluster with this dashboard, not here.")
    ] = None,
    actors: ActorsOption = None,
    with_report: ReportOption = True,
    as_json: JsonOption = False,
) -> None:
    """Go on with a study that is paused, stopped or cut off.

    A study whose driver runs is told to go on; one without a driver gets one here or, with --address, on that cluster.
    """
    from service.records.manifest import read_spec
    from service.records.progress import read_status
    from service.records.requests import request

    uri = study_at(study)
    status = read_status(uri)
    if status.driven:
        request(uri, "resume")
        if as_json:
            print_json({"study": status.name, "uri": uri, "asked": "resume", "driver_alive": True})
        else:
            print(f"{status.name} goes on: its driver ({status.driver}) does so within seconds")
    elif address is not None:
        from service.client.submission import start_driver

        submit.print_submission(start_driver(uri, address, actors=actors), as_json)
    else:
        spec = read_spec(uri) if actors is None else with_actors(read_spec(uri), actors)
        _run_here(spec, uri, context.obj, with_report=with_report, as_json=as_json)


def _run_here(spec: StudySpec, uri: str, again: str, *, with_report: bool, as_json: bool) -> None:
    """Drive the study in this process, report on it, and exit as it ended; ``again`` is the command that goes on."""
    status = _drive(spec, uri, again, console(err=as_json))
    if status.state in ("interrupted", "cancelled"):
        _print_rest(status, again)
        if as_json:
            print_json(status.to_dict())
        raise typer.Exit(INTERRUPTED if status.state == "interrupted" else 0)
    places = _report(status.uri, as_json) if with_report and status.total_done > status.failed else {}
    if as_json:
        print_json(status.to_dict() | places)
    if status.failed:
        _print_failures(status)
    if status.failed or status.state == "failed":
        raise typer.Exit(FAILED)


def with_actors(spec: StudySpec, actors: int) -> StudySpec:
    """``spec`` with this number of actors."""
    return dataclasses.replace(spec, execution=dataclasses.replace(spec.execution, actors=actors))


def _drive(spec: StudySpec, uri: str, again: str, screen: Console) -> StudyStatus:
    """Run the driver under the live display; a storage that fails and an interruption end the command."""
    latest: list[StudyStatus] = []
    from service.cli.display import live
    from service.driver.run import run_study

    find_users_modules()
    try:
        with live(screen) as (show, on_event):

            def on_progress(status: StudyStatus) -> None:
                latest[:] = [status]
                show(status)

            return run_study(spec, uri, on_progress=on_progress, on_event=on_event)
    except StorageError as error:
        print_error(error)
        print("".join(map(_what_is_safe, latest)) + f"go on with:\n  {again}", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:  # before there was a driver to stop, or twice
        print(f"interrupted; go on with:\n  {again}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _what_is_safe(status: StudyStatus) -> str:
    """What a driver that could not go on has left behind."""
    safe = status.total_done - status.uncommitted
    line = f"{safe:,} of {status.total_planned:,} runs are committed and safe"
    if status.uncommitted or status.in_flight:
        line += (
            f"; {status.uncommitted:,} had finished and were not yet committed, {status.in_flight:,} were in training: "
            f"these will be trained again"
        )
    return line + "; "


def _report(uri: str, as_json: bool) -> dict[str, Any]:
    """Write the report of a study that has ended, print its summary, and return where its parts are."""
    from service.client.results import write

    written = write([uri], None)
    if not as_json:
        results.print_summary(written)
        results.print_report(written)
    return results.report_places(written)


def _print_rest(status: StudyStatus, again: str) -> None:
    left = status.total_planned - status.total_done
    print(
        f"{status.state}: {status.total_done:,} of {status.total_planned:,} runs are kept, {left:,} are left. "
        f"Go on with:\n  {again}",
        file=sys.stderr,
    )


def _print_failures(status: StudyStatus) -> None:
    print(
        f"{status.failed:,} runs failed\n"
        f"why:        t1t2 results {status.uri} --query \"status == 'failed'\" --columns run_id,error\n"
        f"once more:  t1t2 retry {status.uri} && t1t2 resume {status.uri}",
        file=sys.stderr,
    )
