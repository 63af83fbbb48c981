"""The commands that look at studies and steer them, from any machine that sees the storage."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import FAILED, INTERRUPTED, STUDIES, JsonOption, StudyArgument, console, print_json, study_at

if TYPE_CHECKING:
    from service import StudyStatus
    from service.records.requests import Action


def status(study: StudyArgument, as_json: JsonOption = False) -> None:
    """Show how far a study is.

    Runs done by arm, rate, time left, diverged and failed runs, the driver, and what to do next.
    """
    from service import read_status

    found = read_status(study_at(study))
    if as_json:
        print_json(found.to_dict())
        return
    from service.cli.display import progress_view

    screen = console()
    screen.print(progress_view(found))
    for wish, command in _next_commands(found).items():
        screen.print(f"{wish}  {command}", style="dim", markup=False, soft_wrap=True)


def watch(
    study: StudyArgument,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks at the storage.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, at each look.")] = False,
) -> None:
    """Watch a study live until it ends.

    From the storage alone, so from any machine that sees it. Ctrl-C ends the watching, not the study.
    """
    import json

    from service import read_status
    from service.cli.display import live

    uri = study_at(study)
    found = read_status(uri)
    try:
        with live(console()) as (on_progress, _):
            while True:
                if as_json:
                    print(json.dumps(found.to_dict()), flush=True)
                else:
                    on_progress(found)
                if found.finished or found.state == "failed":
                    break
                time.sleep(every)
                found = read_status(uri)
    except KeyboardInterrupt:
        print(f"no longer watching; the study is {found.state}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if found.failed or found.state == "failed":
        raise typer.Exit(FAILED)


def list_(
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help="Storage root: a directory or a URI.")] = STUDIES,
    as_json: JsonOption = False,
) -> None:
    """List the studies below a storage root."""
    from service import list_studies

    found = list_studies(storage)
    if as_json:
        print_json([item.to_dict() for item in found])
        return
    from rich.table import Table
    from rich.text import Text

    from service.cli.display import STATE_STYLES, duration, rate

    table = Table("study", "state", box=None, pad_edge=False)
    for heading in ("done", "planned", "diverged", "failed", "rate", "left", "updated (UTC)"):
        table.add_column(heading, justify="right")
    for item in found:
        state = f"[{STATE_STYLES[item.state]}]{item.state}[/]" if item.state in STATE_STYLES else item.state
        left = "" if item.finished else duration(item.seconds_left)
        table.add_row(
            Text(item.name),  # of an unreadable study the directory's, whatever it is
            state,
            f"{item.total_done:,}",
            f"{item.total_planned:,}",
            f"{item.diverged:,}",
            f"{item.failed:,}",
            rate(item.runs_per_s),
            left,
            (item.updated_at or "")[:19].replace("T", " "),
        )
    screen = console()
    screen.print(table if found else f"no study below {storage}")
    for item in found:
        if item.state == "unreadable":
            screen.print(item.error, style="red", markup=False, soft_wrap=True)


def pause(study: StudyArgument, as_json: JsonOption = False) -> None:
    """Start no more runs of a study.

    Runs in flight are finished. `t1t2 resume` goes on.
    """
    _ask(study, "pause", "pauses: runs in flight are finished, no new one starts", as_json)


def cancel(study: StudyArgument, as_json: JsonOption = False) -> None:
    """End a study early.

    Its driver stops; finished runs stay and are published. `t1t2 resume` takes the study up again.
    """
    _ask(study, "cancel", "is cancelled: finished runs stay", as_json)


def retry(
    study: StudyArgument,
    failed: Annotated[
        bool, typer.Option("--failed", help="The failed runs: the only ones that may be trained again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the failed runs of a study again.

    Runs lost with their worker or node come back by themselves; diverged ones are results and stay.
    """
    if not failed:
        raise typer.BadParameter("say which runs: --failed", param_hint="retry")
    _ask(study, "retry", "trains its failed runs again", as_json)


def extend(
    study: StudyArgument,
    configurations: Annotated[int, typer.Option(min=1, help="How many configurations the study has then, in all.")],
    as_json: JsonOption = False,
) -> None:
    """Add configurations to a study.

    Those that it has keep their numbers and their runs.
    """
    _ask(study, "extend", f"has {configurations:,} configurations from now on", as_json, configurations=configurations)


def serve(
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help="Storage root: a directory or a URI.")] = STUDIES,
    host: Annotated[str, typer.Option(help="Address to listen on; whoever reaches it may read.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")] = 8080,
    as_json: JsonOption = False,
) -> None:
    """Show the studies of a storage root as web pages.

    They only read, from the storage alone, and have no password: listen on other addresses than this machine's own
    behind something that asks for one. The same is there as JSON below /api/studies. Ctrl-C ends it.
    """
    from service.web.server import make_server

    with make_server(storage, host, port) as server:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{server.server_address[1]}/"
        if as_json:
            print_json({"url": url, "storage": storage})
        else:
            print(f"{storage} at {url}")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            raise typer.Exit from None


def _ask(study: str, action: Action, effect: str, as_json: bool, **arguments: int) -> None:
    from service import read_status, request
    from service.client.lifecycle import is_driven

    uri = study_at(study)
    found = read_status(uri)
    if is_driven(found) or action in ("retry", "extend"):  # which the next driver does; the others are for a living one
        request(uri, action, **arguments)
        found = read_status(uri)
    elif not as_json:
        print(f"{found.name} is {found.state}, and no driver runs: there is nothing to {action}")
        return
    when = f"its driver ({found.driver}) does so within seconds" if is_driven(found) else "when a driver runs again"
    if as_json:
        print_json({"study": found.name, "uri": uri, "asked": action, **arguments, "driver_alive": is_driven(found)})
        return
    print(f"{found.name} {effect}; {when}")
    if not is_driven(found) and action in ("retry", "extend"):
        print(f"start one:  t1t2 resume {uri}")


def _next_commands(found: StudyStatus) -> dict[str, str]:
    """What the user may want to do now, and the command for it."""
    from service.client.lifecycle import is_driven

    if is_driven(found):
        return {"go on:": f"t1t2 resume {found.uri}"} if found.state == "paused" else {}
    if found.state != "completed":
        return {"no driver runs; go on:": f"t1t2 resume {found.uri}"}
    retry = {"train the failed runs again:": f"t1t2 retry {found.uri} --failed"} if found.failed else {}
    return {"results:": f"t1t2 results {found.uri}", "report:": f"t1t2 report {found.uri}", **retry}
