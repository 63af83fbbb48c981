"""An Optuna storage, with an Optuna study for each model and arm."""

from __future__ import annotations

import shlex
import warnings
from datetime import datetime
from pathlib import Path

import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.exports.selection import Run, Selection, is_number

STORAGE = "optuna.log"  # a journal: a trial takes half a millisecond, and 18 in SQLite
# All other runs have failed: Optuna knows no trial that ended without a value but in this way.
_STATES = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED}


def write(selection: Selection, folder: Path, place: Path) -> str:
    """A journal of studies named ``STUDY/MODEL/ARM``, to be minimised, with a trial for each run.

    A trial's parameters are the hyperparameters that the run started with. Its value is the T2 loss at the end (nats),
    its intermediate values are those on the way. The rest is in its user attributes: what names the run, the
    hyperparameters at the end, and all that was measured.
    """
    distributions = {name: FloatDistribution(low, high) for name, (low, high) in selection.boxes.items()}
    studies: dict[str, optuna.Study] = {}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would print a line for each study
    try:
        storage = JournalStorage(JournalFileBackend(str(folder / STORAGE)))
        for run in selection.runs():
            name = f"{selection.study.name}/{run.row['model']}/{run.row['arm']}"
            if name not in studies:
                studies[name] = optuna.create_study(storage=storage, study_name=name, direction="minimize")
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ExperimentalWarning)
                    studies[name].set_metric_names(["t2_loss"])
                for key, value in selection.about().items():
                    studies[name].set_user_attr(key, value)
            studies[name].add_trial(_trial(run, distributions))
    finally:
        optuna.logging.set_verbosity(verbosity)
    return f"optuna-dashboard {shlex.quote(str(place / STORAGE))}"


def _trial(run: Run, distributions: dict[str, FloatDistribution]) -> FrozenTrial:
    results, params = run.results(), run.starts()
    state = _STATES.get(run.row["status"], TrialState.FAIL)
    if state is TrialState.COMPLETE and "t2_loss" not in results:
        state = TrialState.FAIL
    trial = create_trial(
        state=state,
        value=results.get("t2_loss") if state is not TrialState.FAIL else None,
        params=params,
        distributions={name: distributions[name] for name in params},
        user_attrs={**run.facts(), **results},
        intermediate_values={p["step"]: p["t2_loss"] for p in run.points if is_number(p["t2_loss"])},
    )
    trial.datetime_start, trial.datetime_complete = _local(run.started), _local(run.finished)
    return trial


def _local(when: datetime) -> datetime:
    """``when`` as Optuna has it: local time that does not say so."""
    return when.astimezone().replace(tzinfo=None)
