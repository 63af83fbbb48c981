"""The commands that steer a study by a request left in its storage: ``pause``, ``cancel``, ``retry``, ``extend``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import JsonOption, StudyArgument, example, print_json, study_at
from service.cli.slips import YesOption, ask_about_slips

if TYPE_CHECKING:
    from service.records.requests import Action

commands = typer.Typer()


@commands.command(epilog=example("t1t2 pause studies/mnist"))
def pause(study: StudyArgument, as_json: JsonOption = False) -> None:
    """Start no more runs of a study.

    Runs in flight are finished. `t1t2 resume` goes on.
    """
    _ask(study, "pause", "pauses: runs in flight are finished, no new one starts", as_json)


@commands.command(epilog=example("t1t2 cancel studies/mnist"))
def cancel(study: StudyArgument, as_json: JsonOption = False) -> None:
    """End a study early.

    Its driver stops; finished runs stay and are published. `t1t2 resume` takes the study up again.
    """
    _ask(study, "cancel", "is cancelled: finished runs stay", as_json)


@commands.command(epilog=example("t1t2 retry studies/mnist && t1t2 resume studies/mnist"))
def retry(
    study: StudyArgument,
    failed: Annotated[  # changes nothing: typed by those who want to read which runs
        bool, typer.Option("--failed", help="Said or not: only failed runs can be trained again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the failed runs of a study again.

    Runs lost with their worker or node come back by themselves; diverged ones are results and stay.
    """
    _ask(study, "retry", "trains its failed runs again", as_json)


@commands.command(epilog=example("t1t2 extend studies/mnist --configurations 10000"))
def extend(
    study: StudyArgument,
    configurations: Annotated[int, typer.Option(min=1, help="How many configurations the study has then, in all.")],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add configurations to a study.

    Those that it has keep their numbers and their runs.
    """
    from service.records.manifest import read_spec

    larger = dataclasses.replace(read_spec(study_at(study)), configurations=configurations)
    ask_about_slips(larger, yes)
    _ask(study, "extend", f"has {configurations:,} configurations from now on", as_json, configurations=configurations)


def _ask(study: str, action: Action, effect: str, as_json: bool, **arguments: int) -> None:
    """Leave a request for the study's driver and say what becomes of it.

    Without a driver, ``retry`` and ``extend`` wait for the next one; ``pause`` and ``cancel`` have nothing to do.
    """
    from service.records.progress import read_status
    from service.records.requests import request

    uri = study_at(study)
    found = read_status(uri)
    can_wait = action in ("retry", "extend")
    if found.driven or can_wait:
        request(uri, action, **arguments)
        found = read_status(uri)
    elif not as_json:
        print(f"{found.name} is {found.state}, and no driver runs: there is nothing to {action}")
        return
    if as_json:
        print_json({"study": found.name, "uri": uri, "asked": action, **arguments, "driver_alive": found.driven})
        return
    when = f"its driver ({found.driver}) does so within seconds" if found.driven else "the next driver does so"
    print(f"{found.name} {effect}; {when}")
    if can_wait and not found.driven:
        print(f"start one:  t1t2 resume {uri}")
