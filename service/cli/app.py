"""The command line ``t1t2``.

Exit codes: 0, 1 (something failed), 2 (bad input), 130 (interrupted). Ray, torch, pandas and the analysis are imported
by the commands that need them, so that ``t1t2 status`` answers at once.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import control, doctor, fetch, results, submit
from service.cli.console import FAILED, INTERRUPTED, STUDIES, JsonOption, StudyArgument, console, print_json, study_at
from service.errors import StorageError, StudyError

if TYPE_CHECKING:
    from service import StudySpec, StudyStatus


ReportOption = Annotated[bool, typer.Option("--report/--no-report", help="Write the report at the end.")]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"t1t2 {version('t1t2-study')}")
        raise typer.Exit


def example(line: str) -> str:
    """The end of a command's help; the backspace keeps the line whole."""
    return f"\b\nExample:\n  {line}"


app = typer.Typer(
    name="t1t2",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="\b\nExit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.\nStart here:\n"
    "  t1t2 run deploy/studies/quickstart.toml",
)


@app.callback()
def t1t2(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Large seeded studies of online hyperparameter optimisation (T1-T2) on Ray, published as Parquet."""


SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="The study's spec, a TOML file.")]
ActorsOption = Annotated[int | None, typer.Option(min=1, help="Ray actors at work; by default what the spec says.")]


@app.command(epilog=example("t1t2 run deploy/studies/quickstart.toml --out studies/quickstart --actors 2"))
def run(
    context: typer.Context,
    spec: SpecArgument,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Study directory or URI; by default studies/NAME.")
    ] = None,
    actors: ActorsOption = None,
    with_report: ReportOption = True,
    as_json: JsonOption = False,
) -> None:
    """Run a study here, or go on with it.

    On an embedded local Ray (or the cluster that RAY_ADDRESS names). The same command again resumes: nothing is trained
    twice. A larger number of configurations extends the study. At the end come the summary and the report.
    """
    from service import load_spec, run_study, study_uri

    study = _with_actors(load_spec(spec), actors)
    place = out or study_uri(STUDIES, study.name)
    _drive(lambda **shown: run_study(study, place, **shown), str(context.obj), as_json, with_report=with_report)


@app.command(epilog=example("t1t2 resume studies/quickstart"))
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
    from service import read_spec, read_status, request, run_study
    from service.client.lifecycle import is_driven

    uri = study_at(study)
    found = read_status(uri)
    if is_driven(found):
        request(uri, "resume")
        if as_json:
            print_json({"study": found.name, "uri": uri, "asked": "resume", "driver_alive": True})
        else:
            print(f"{found.name} goes on: its driver ({found.driver}) does so within seconds")
        return
    if address is not None:
        from service.client.study_client import start_driver

        submit.print_submission(start_driver(uri, address, actors=actors), as_json)
        return
    spec = _with_actors(read_spec(uri), actors)
    _drive(lambda **shown: run_study(spec, uri, **shown), str(context.obj), as_json, with_report=with_report)


def _with_actors(spec: StudySpec, actors: int | None) -> StudySpec:
    if actors is None:
        return spec
    return dataclasses.replace(spec, execution=dataclasses.replace(spec.execution, actors=actors))


def _drive(drive: Callable[..., StudyStatus], again: str, as_json: bool, *, with_report: bool) -> None:
    """Run a driver in this process under the live display; then the summary, the report and the exit code."""
    from service.cli.display import live

    if os.getcwd() not in sys.path:  # the user's own trainers, models and data sets; Ray hands the path to its workers
        sys.path.append(os.getcwd())
    screen = console(err=as_json)
    try:
        with live(screen) as (on_progress, on_event):
            status = drive(on_progress=on_progress, on_event=on_event)
    except StorageError as error:
        print(f"error: {error}\nwhat was finished is kept; go on with:\n  {again}", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:  # before there was a driver to stop, or twice
        print(f"interrupted; go on with:\n  {again}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if status.state in ("interrupted", "cancelled"):
        left = status.total_planned - status.total_done
        print(
            f"{status.state}: {status.total_done:,} of {status.total_planned:,} runs are kept, {left:,} are left. "
            f"Go on with:\n  {again}",
            file=sys.stderr,
        )
        if as_json:
            print_json(status.to_dict())
        raise typer.Exit(INTERRUPTED if status.state == "interrupted" else 0)
    result: dict[str, Any] = status.to_dict()
    if with_report and status.total_done > status.failed:
        from service.cli.summary import print_summary
        from service.client.results import write

        written = write([status.uri], None)
        result |= results.report_places(written)
        if not as_json:
            print_summary(written.statistics[0])
            results.print_report(written)
    if as_json:
        print_json(result)
    if status.failed:
        print(
            f"{status.failed:,} runs failed\n"
            f"why:        t1t2 results {status.uri} --query \"status == 'failed'\" --columns run_id,error\n"
            f"once more:  t1t2 retry {status.uri} --failed && t1t2 resume {status.uri}",
            file=sys.stderr,
        )
    if status.failed or status.state == "failed":
        raise typer.Exit(FAILED)


app.command(epilog=example("t1t2 status studies/quickstart --json"))(control.status)
app.command(epilog=example("t1t2 watch s3://bucket/studies/mnist --every 5"))(control.watch)
app.command("list", epilog=example("t1t2 list s3://bucket/studies"))(control.list_)
app.command(epilog=example("t1t2 pause studies/mnist"))(control.pause)
app.command(epilog=example("t1t2 cancel studies/mnist"))(control.cancel)
app.command(epilog=example("t1t2 retry studies/mnist --failed && t1t2 resume studies/mnist"))(control.retry)
app.command(epilog=example("t1t2 extend studies/mnist --configurations 10000"))(control.extend)
app.command(epilog=example('t1t2 results quickstart --columns model,arm,t2_loss --query "t2_loss < 0.2"'))(
    results.results
)
app.command(epilog=example("t1t2 report studies/quickstart --out report"))(results.report)
app.command(
    epilog=example("t1t2 submit deploy/studies/mnist.toml --address http://head:8265 --storage s3://bucket/studies")
)(submit.submit)
app.command(epilog=example("t1t2 serve studies --port 8080"))(control.serve)
app.command(epilog=example("t1t2 fetch mnist --root ~/data"))(fetch.fetch)
app.command(epilog=example("t1t2 doctor --spec deploy/studies/quickstart.toml"))(doctor.doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code. Bad input is told in one message on stderr, without a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=words, prog_name="t1t2", obj=shlex.join(["t1t2", *words]))  # the command to give again after Ctrl-C
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StorageError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of `t1t2 results … | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0
