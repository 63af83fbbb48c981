"""Mistakes that a type checker finds. ``make lint`` checks this file; it is never run.

Each line is wrong in the way that its comment names. Were the mistake not found, the comment would be unused, which is
an error by itself.
"""

from __future__ import annotations

from pathlib import Path

import analysis
import service
import trainers
from analysis import load_studdy  # type: ignore[attr-defined]  # noqa: F401
from service import run_studdy  # type: ignore[attr-defined]  # noqa: F401
from trainers import trainn  # type: ignore[attr-defined]  # noqa: F401


def names_that_do_not_exist() -> None:
    analysis.load_studdy  # type: ignore[attr-defined]  # noqa: B018
    service.run_studdy  # type: ignore[attr-defined]  # noqa: B018
    trainers.trainn  # type: ignore[attr-defined]  # noqa: B018


def arguments_that_do_not_exist(spec: service.StudySpec, config: trainers.TrainConfig) -> None:
    service.run_study(spec, Path("out"), onevent=print)  # type: ignore[call-arg]
    trainers.TrainConfig(datta=config.data)  # type: ignore[call-arg]
    service.StudyClient(storge="studies")  # type: ignore[call-arg]


def values_of_another_type(config: trainers.TrainConfig) -> None:
    service.run_study("study.toml", Path("out"))  # type: ignore[arg-type]
    trainers.load_problem("digits")  # type: ignore[arg-type]
    analysis.find_region(analysis.load_study("studies/tiny"), "mlp-64", {})  # type: ignore[arg-type]


def what_may_not_be_computable(study: analysis.Study) -> None:
    analysis.find_region(study.runs, "mlp-64", study.boxes).volume  # type: ignore[union-attr]  # noqa: B018


def records_that_cannot_be_changed(result: trainers.Result) -> None:
    result.t2_loss = 0.0  # type: ignore[misc]
