"""Offline runs of Weights & Biases, which ``wandb sync`` uploads."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from analysis.exports.selection import Run, Selection


def write(selection: Selection, folder: Path, place: Path) -> str:
    """A directory ``wandb/offline-run-…`` for each run, of a project with the study's name; nothing is sent anywhere.

    The history is what was recorded on the way, below ``trajectory/``, over the steps; the summary is all that was
    measured at the end. The configuration holds the hyperparameters that the run started with and what names it. Runs
    are grouped by model and arm. Uploading twice makes no run twice: its id is that of the study's run.
    """
    import wandb  # here: it needs pydantic, which the analysis does without

    settings = wandb.Settings(
        console="off",
        disable_git=True,  # nothing of this machine belongs to a run that was trained elsewhere
        host="",
        save_code=False,
        silent=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    for run in selection.runs():
        _log(run, selection, folder, settings)
    return f"wandb sync {shlex.quote(str(place))}/wandb/offline-run-*"


def _log(run: Run, selection: Selection, folder: Path, settings: Any) -> None:
    import wandb

    row = run.row
    logged = wandb.init(
        mode="offline",
        dir=str(folder),
        project=re.sub(r"[/\\#?%:]", "-", selection.study.name),  # W&B's names have none of these
        id=row["run_id"],
        name=run.name,
        group=f"{row['model']}/{row['arm']}",
        tags=[row["arm"], row["status"]],
        config={**selection.about(), **run.facts(), **run.starts()},
        reinit="create_new",
        settings=settings,
    )
    for step, scalars in run.scalars():
        logged.log({f"trajectory/{name}": value for name, value in scalars.items()}, step=step)
    logged.summary.update(run.results())
    logged.finish(exit_code=0 if row["status"] == "completed" else 1)
