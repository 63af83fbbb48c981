"""The command ``export``: a study in the formats of other tools."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.console import JsonOption, StudyArgument, example, print_json, study_at

commands = typer.Typer()


@commands.command(epilog=example("t1t2 export quickstart --to optuna --out exports/quickstart-optuna"))
def export(
    study: StudyArgument,
    to: Annotated[
        str, typer.Option(metavar="TOOL", help="optuna, mlflow, tensorboard, wandb-offline, csv, huggingface.")
    ],
    out: Annotated[str, typer.Option(metavar="DIR", help="The directory to make; there may be nothing in it yet.")],
    arm: Annotated[str | None, typer.Option(help="Only this arm (or arms, separated by commas).")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model (or models, separated by commas).")] = None,
    query: Annotated[
        str | None, typer.Option(help='Only these runs, as a pandas query: "t2_loss < 0.2 and config_index < 100".')
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a study in the format of another tool.

    Optuna, MLflow, TensorBoard, Weights & Biases (offline), CSV, or a data set for the Hugging Face Hub. While the
    study runs and afterwards. Says what opens the result.
    """
    from service.client.results import export as write

    exported = write(study_at(study), to, out, arm=arm, model=model, query=query)
    if as_json:
        place = str(exported.place)
        print_json({"to": to, "out": place, "runs": exported.runs, "opened_by": exported.opened_by})
    else:
        print(f"{exported.runs:,} runs: {exported.place}\nopen it:  {exported.opened_by}")
