"""The command ``submit``: a study's driver on a cluster."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import FAILED, ActorsOption, JsonOption, SpecArgument, example, print_doubts, print_json
from service.cli.slips import YesOption, ask_about_slips

if TYPE_CHECKING:
    from service.client.submission import Submission

commands = typer.Typer()


@commands.command(
    epilog=example("t1t2 submit deploy/studies/mnist.toml --address http://head:8265 --storage s3://bucket/studies")
)
def submit(
    spec: SpecArgument,
    address: Annotated[
        str, typer.Option(metavar="URL", envvar="T1T2_ADDRESS", help="The cluster's dashboard: http://HEAD:8265.")
    ],
    storage: Annotated[
        str,
        typer.Option(
            metavar="URI",
            envvar="T1T2_STORAGE",
            help="Storage root that client and cluster see; the study is URI/NAME.",
        ),
    ],
    actors: ActorsOption = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Send this directory along: your own trainers, models and data sets, or a checkout of t1t2.",
        ),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Submit a study to a Ray cluster.

    Its driver runs on the cluster and needs this machine no more. The same spec again attaches to the study that is
    there; more configurations extend it; another spec of the same name is refused.

    The cluster's token is taken from RAY_AUTH_TOKEN, the file named by RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token.
    """
    from service.client.study_client import StudyClient
    from service.spec.study_spec import load_spec

    study = load_spec(spec)
    print_doubts(study)
    ask_about_slips(study, yes)
    submission = StudyClient(address, storage=storage).submit(study, actors=actors, working_dir=working_dir)
    print_submission(submission, as_json)


def print_submission(submission: Submission, as_json: bool) -> None:
    """What became of a submission; exit code 1 where the study has failed."""
    if as_json:
        print_json(dataclasses.asdict(submission))
    else:
        what = "submitted" if submission.new_driver else "attached"
        print(
            f"{what}: {submission.name}, state {submission.state}, job {submission.submission_id or '–'}\n"
            f"storage: {submission.uri}\nlook:    t1t2 watch {submission.uri}"
        )
    if submission.state == "failed":
        raise typer.Exit(FAILED)
