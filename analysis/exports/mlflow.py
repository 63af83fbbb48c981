"""An MLflow tracking store, with one experiment for the study and an MLflow run for each of its runs."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.exports.selection import Run, Selection
from analysis.files import StudyError

STORE = "mlflow.db"
_ENDS = {"completed": "FINISHED", "stopped": "KILLED"}  # all other runs have failed


def write(selection: Selection, folder: Path, place: Path) -> str:
    """A store in SQLite.

    The parameters of an MLflow run are the hyperparameters that the run started with. Its metrics are all that was
    measured at the end and, below ``trajectory/``, what was recorded on the way, over the steps. What names the run and
    says how it went is in its tags.

    Raises StudyError where SQLAlchemy would read the path of the store as another one: it takes ``?`` for the begin of
    options and, from version 2.1, ``%20`` for a space.
    """
    if unwanted := [sign for sign in "?%" if sign in str(place)]:
        raise StudyError(f"--out {str(place)!r}: must have no {' and no '.join(unwanted)} in its path for MLflow")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import: an export tells nobody
    from mlflow.tracking import MlflowClient

    with _quick_and_quiet():
        client = MlflowClient(tracking_uri=f"sqlite:///{folder / STORE}")
        about = selection.about()
        artifacts = (place / "artifacts").as_uri()
        experiment = client.create_experiment(selection.study.name, artifact_location=artifacts, tags=about)
        commit = {"mlflow.source.git.commit": about["git_commit"]} if "git_commit" in about else {}
        for run in selection.runs():
            _log(client, experiment, run, commit)
        client._tracking_client.store.engine.dispose()  # or the file would stay open
    return f"mlflow ui --backend-store-uri {shlex.quote(f'sqlite:///{place / STORE}')}"


def _log(client: Any, experiment: str, run: Run, tags: dict[str, str]) -> None:
    from mlflow.entities import Param

    tags = tags | {name: str(value) for name, value in run.facts().items()}
    made = client.create_run(experiment, start_time=_milliseconds(run.started), tags=tags, run_name=run.name)
    params = [Param(name, repr(value)) for name, value in run.starts().items()]
    client.log_batch(made.info.run_id, list(_metrics(run)), params)
    end = _ENDS.get(run.row["status"], "FAILED")
    client.set_terminated(made.info.run_id, end, end_time=_milliseconds(run.finished))


def _metrics(run: Run) -> Iterator[Any]:
    """Of the points only their steps are known, not their times: all metrics have that of the run's end."""
    from mlflow.entities import Metric

    when = _milliseconds(run.finished)
    for step, scalars in run.scalars():
        for name, value in scalars.items():
            yield Metric(f"trajectory/{name}", value, when, step)
    for name, value in run.results().items():
        yield Metric(name, value, when, run.row["steps"] or 0)


def _milliseconds(when: datetime) -> int:
    return round(when.timestamp() * 1000)


@contextmanager
def _quick_and_quiet() -> Iterator[None]:
    """Let SQLite not wait for the disk, and MLflow print no line for each of its tables.

    MLflow commits seven times a run, and each commit waits some 10 ms: six times as long as the rest. What a power cut
    leaves need not be whole, because it does not have its name yet.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def no_waiting(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    log = logging.getLogger("mlflow")
    level = log.level
    log.setLevel(logging.WARNING)
    event.listen(Engine, "connect", no_waiting)
    try:
        yield
    finally:
        event.remove(Engine, "connect", no_waiting)
        log.setLevel(level)
