"""The command ``import``: a search by Ray Tune or Optuna becomes a study."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import JsonOption, console, example, plain, print_json, study_at

if TYPE_CHECKING:
    from service.imports.study import Imported

commands = typer.Typer()


@commands.command(
    "import",
    epilog=example(
        "t1t2 import ~/ray_results/search --out studies/search --like studies/quickstart "
        "--map weight_decay=log10_l2:log10 --map noise=input_noise_std --metric val_loss=t2_loss"
    ),
)
def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Directory of a Ray Tune experiment, URL of a database of Optuna such as sqlite:///search.db, or a "
            "file of SQLite or of Optuna's journal.",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="DIR", help="A new directory or URI for the study.")],
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="NAME=COLUMN[:TRANSFORM]",
            help="A parameter of the search and the hyperparameter that it is. Transforms: log10, log10_double (for a "
            "penalty λ θ² without the half), sqrt, complement (1 - x).",
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME=COLUMN[:TRANSFORM]",
            help="A metric of the search, and what it is: t1_loss, t2_loss, t2_error, test_loss or test_error.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="COLUMN=VALUE", help="A hyperparameter that the search did not vary."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="STUDY", help="A study of t1t2 that gives the hyperparameters, box, model and data set."),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="LABEL", help="Label of the network in the tables.")] = None,
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the data set in the tables.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study; by default that of the search.")] = None,
    study_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The study to read, where a storage of Optuna holds several.")
    ] = None,
    step: Annotated[
        str | None, typer.Option(metavar="METRIC", help="What counts a Tune trial's steps [training_iteration].")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Import a search by Ray Tune or Optuna.

    Its trials become runs of the arm "imported", which results and report read; report --beside lays them over the
    region of a study. No pickle is loaded, and nothing is written to the source.
    """
    from service.imports.study import import_study

    imported = import_study(
        source,
        out,
        maps=maps or (),
        metrics=metrics or (),
        settings=settings or (),
        like=study_at(like) if like else None,
        model=model,
        dataset=dataset,
        name=name,
        study_name=study_name,
        step=step,
    )
    if as_json:
        print_json(dataclasses.asdict(imported))
        return
    screen = console()
    for line in _lines(imported):
        screen.print(plain(line), markup=False, soft_wrap=True)


def _lines(imported: Imported) -> list[str]:
    trials = sum(imported.statuses.values())
    lines = [f"{trials:,} trials of {imported.kind} in {imported.study}: {_counts(imported.statuses)}"]
    if imported.left_out:
        lines.append(f"left out: {_counts(imported.left_out)}")
    if imported.without_value:
        parts = (f"{name} in {count:,}" for name, count in imported.without_value.items())
        lines.append(f"trials without a number that their hyperparameter can take: {', '.join(parts)}")
    if imported.not_taken:
        lines.append(f"parameters without a column: {', '.join(imported.not_taken)}")
    return [
        *lines,
        f"runs:              t1t2 results {imported.study}",
        f"over a region:     t1t2 report STUDY --beside {imported.study}",
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())
