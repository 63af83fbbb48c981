"""Reads a study of Optuna: from a database, or from the file of its journal. Nothing is written to either.

Optuna keeps parameters, values and attributes as JSON and as numbers. Only the journal on Redis has pickled snapshots,
so it is refused. A database is opened without making or upgrading its tables, a file of SQLite for reading alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from service.errors import StudyError
from service.imports.trials import End, Report, Source, Trial, flat

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

DATABASES = ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql")  # the schemes of SQLAlchemy's own dialects
SQLITE = b"SQLite format 3\0"  # how such a file begins
OBJECTIVE = "value"  # the metric that a study with one objective optimises; its trials report it on their way, too
UNENDED = {"RUNNING": "still running", "WAITING": "not started"}
ENDS: dict[str, End] = {"COMPLETE": "completed", "PRUNED": "stopped", "FAIL": "failed"}
EXTRA = "Optuna is not installed; it comes with  pip install 't1t2-study[optuna]'"


def is_storage(text: str) -> bool:
    """Whether ``text`` names a storage of Optuna: a database's URL, or a file."""
    return (
        text.partition("://")[0].partition("+")[0] in (*DATABASES, "redis") if "://" in text else Path(text).is_file()
    )


def read_storage(text: str, name: str | None = None) -> Source:
    """The trials of the study ``name``, or of the only one, in the storage at the URL or path ``text``.

    Its metrics are the objective, ``value`` (of several: ``values_0``, ``values_1``, …), and the user attributes. A
    trial that has not ended is left out, and counted. Optuna keeps times without their zone; they are given as UTC.

    Raises:
        StudyError: Optuna is not installed, there is no such storage or study, or it cannot be read.
    """
    with _opened(text) as (storage, shown):
        studies = {study.study_name: study for study in storage.get_all_studies()}
        names = ", ".join(map(repr, sorted(studies)))
        if name is None and len(studies) != 1:
            raise StudyError(f"{shown}: holds {len(studies)} studies; name one by --study-name: {names or '(none)'}")
        chosen = next(iter(studies)) if name is None else name
        if chosen not in studies:
            raise StudyError(f"--study-name {chosen!r}: {shown} has no such study; there are {names or 'none'}")
        found = storage.get_all_trials(studies[chosen]._study_id, deepcopy=False)
        directions = [direction.name for direction in studies[chosen].directions]
    objectives = [OBJECTIVE] if len(directions) == 1 else [f"values_{place}" for place in range(len(directions))]
    unended = Counter(UNENDED[trial.state.name] for trial in found if trial.state.name in UNENDED)
    return Source(
        kind="Optuna",
        name=chosen,
        location=shown,
        trials=tuple(_trial(trial, objectives) for trial in found if trial.state.name in ENDS),
        maximised=frozenset(metric for metric, way in zip(objectives, directions, strict=True) if way == "MAXIMIZE"),
        left_out=unended,
    )


def _trial(trial: FrozenTrial, objectives: list[str]) -> Trial:
    parameters = dict(trial.params)
    reports = tuple(
        Report(step=step, metrics={OBJECTIVE: value}, parameters=parameters)
        for step, value in sorted(trial.intermediate_values.items())
    )
    latest = [reports[-1].metrics[OBJECTIVE]] if reports and objectives == [OBJECTIVE] else []
    values = trial.values or latest
    return Trial(
        id=str(trial.number),
        end=ENDS[trial.state.name],
        reports=reports,
        metrics={**flat(trial.user_attrs), **dict(zip(objectives, values, strict=False))},
        initial=parameters,
        final=parameters,
        error="the trial failed; Optuna does not record why" if trial.state.name == "FAIL" else None,
        started_at=_seconds(trial.datetime_start),
        finished_at=_seconds(trial.datetime_complete),
        seconds=trial.duration.total_seconds() if trial.duration else None,
    )


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.replace(tzinfo=UTC).timestamp()


@contextmanager
def _opened(text: str) -> Iterator[tuple[BaseStorage, str]]:
    """The storage, and how it is shown: without a password."""
    try:
        import optuna  # noqa: F401  # here: the extra is needed for this alone
    except ImportError:
        raise StudyError(EXTRA) from None
    shown, path, url = _place(text)
    try:
        with _database(url) if url else _file(path) as storage:
            yield storage, shown
    except StudyError:
        raise
    except Exception as error:  # of Optuna, SQLAlchemy, drivers of databases, json: there is no closed list
        reason = str(error.__cause__ or error).splitlines() or [type(error).__name__]
        raise StudyError(f"{shown}: cannot be read as a storage of Optuna ({reason[0]})") from None


def _place(text: str) -> tuple[str, str, str]:
    """How the storage is shown; its path if it is a file, else its URL."""
    if "://" not in text:
        return text, text, ""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if text.startswith("redis"):
        raise StudyError(
            f"{text.partition('://')[0]}://…: a journal on Redis holds pickled snapshots, which are not loaded; copy "
            "the study into a database with optuna.copy_study"
        )
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # the text may hold a password
        raise StudyError("SOURCE: is no URL of a database; an example is sqlite:///search.db") from None
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() != "sqlite":
        return shown, "", text
    if not os.path.isfile(url.database or ""):
        raise StudyError(f"{shown}: there is no such file")
    return shown, str(url.database), ""


def _file(path: str) -> AbstractContextManager[BaseStorage]:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    with open(path, "rb") as file:
        is_sqlite = file.read(len(SQLITE)) == SQLITE
    if is_sqlite:
        return _database(f"sqlite:///file:{quote(os.path.abspath(path))}?mode=ro&uri=true")
    return nullcontext(JournalStorage(JournalFileBackend(path)))


@contextmanager
def _database(url: str) -> Iterator[BaseStorage]:
    from optuna.storages import RDBStorage

    storage = RDBStorage(url, skip_table_creation=True)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()
