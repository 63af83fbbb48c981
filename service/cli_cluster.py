"""The command ``submit``: a study's driver on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli_console import FAILED, JsonOption, print_json


def submit(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The study's spec, a TOML file.")],
    address: Annotated[str, typer.Option(metavar="URL", envvar="T1T2_ADDRESS", help="The cluster's dashboard: http://HEAD:8265.")],
    storage: Annotated[str, typer.Option(metavar="URI", envvar="T1T2_STORAGE",
                                         help="Storage root that client and cluster see; the study is URI/NAME.")],
    actors: Annotated[int | None, typer.Option(min=1, help="Ray actors at work; by default the spec's.")] = None,
    working_dir: Annotated[Path | None, typer.Option(
        metavar="DIR", exists=True, file_okay=False,
        help="Send this checkout along: for a cluster that has the dependencies but not this distribution.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a study to a Ray cluster, or attach to it if it is there. Its driver runs there, without this machine.

    The cluster's token is taken from RAY_AUTH_TOKEN, the file named by RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token.
    """
    from service.client import StudyClient

    submission = StudyClient(address, storage=storage).submit(spec, actors=actors, working_dir=working_dir)
    if as_json:
        print_json({"uri": submission.uri, "submission_id": submission.submission_id, "study": submission.name,
                    "new_study": submission.new_study, "new_driver": submission.new_driver, "state": submission.state})
    else:
        what = "submitted" if submission.new_driver else "attached"
        print(f"{what}: {submission.name}, driver {submission.submission_id or 'elsewhere'}, state {submission.state}\n"
              f"storage: {submission.uri}\nlook:    t1t2 watch {submission.uri}")
    if submission.state == "failed":
        raise typer.Exit(FAILED)
