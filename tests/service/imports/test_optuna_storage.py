from __future__ import annotations

import hashlib
import math
import os
import sqlite3
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from service import StudyError
from service.imports.optuna_storage import is_storage, read_storage
from service.imports.trials import Source
from tests.service.imports.searches import fill

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("optuna") / "a search.db"
    fill(optuna.create_study(study_name="tpe", storage=f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("optuna") / "journal.log"
    fill(optuna.create_study(study_name="tpe", storage=JournalStorage(JournalFileBackend(str(path)))))
    return path


def check(source: Source, study: optuna.Study) -> None:
    """Every value of ``source`` is what Optuna itself says."""
    trials = study.trials
    assert (source.kind, source.name, source.maximised) == ("Optuna", "tpe", frozenset())
    assert [trial.id for trial in source.trials] == ["0", "1", "2", "3"]
    assert [trial.end for trial in source.trials] == ["completed", "stopped", "failed", "failed"]
    assert source.left_out == {"still running": 1}
    assert source.parameters == ["activation", "decay", "noise"]
    assert source.metrics == ["test/loss", "value"]
    for found, trial in zip(source.trials, trials, strict=False):
        assert found.initial == found.final == trial.params
        expected = list(trial.intermediate_values.items())
        assert [each.step for each in found.reports] == [step for step, _ in expected]
        got = [each.metrics["value"] for each in found.reports]
        assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, (_, b) in zip(got, expected, strict=True))
        assert found.metrics["test/loss"] == trial.user_attrs["test"]["loss"]
        assert trial.duration is not None
        assert found.seconds == trial.duration.total_seconds()
    assert source.trials[0].metrics["value"] == trials[0].value
    assert source.trials[1].metrics["value"] == trials[1].intermediate_values[10]  # where it was pruned
    assert math.isnan(source.trials[3].metrics["value"])
    assert source.trials[2].error == "the trial failed; Optuna does not record why"


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_every_value_in_sqlite_is_read_and_nothing_written(sqlite: Path, form: str) -> None:
    before = hashlib.sha256(sqlite.read_bytes()).hexdigest(), sqlite.stat().st_mtime_ns, os.listdir(sqlite.parent)
    text = form.format(sqlite)
    assert is_storage(text)
    source = read_storage(text)
    assert (
        hashlib.sha256(sqlite.read_bytes()).hexdigest(),
        sqlite.stat().st_mtime_ns,
        os.listdir(sqlite.parent),
    ) == before
    check(source, optuna.load_study(study_name="tpe", storage=f"sqlite:///{sqlite}"))


def test_every_value_in_a_journal_is_read_and_half_a_line_at_its_end_is_not(journal: Path, tmp_path: Path) -> None:
    check(
        read_storage(str(journal)),
        optuna.load_study(study_name="tpe", storage=JournalStorage(JournalFileBackend(str(journal)))),
    )
    cut = tmp_path / "cut.log"
    cut.write_bytes(journal.read_bytes() + b'{"op_code": 4, "worker')
    assert read_storage(str(cut)).trials == read_storage(str(journal)).trials
    assert os.listdir(tmp_path) == ["cut.log"]


def test_several_objectives_and_one_that_is_maximised(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'several.db'}"
    study = optuna.create_study(study_name="two", storage=url, directions=["minimize", "maximize"])
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 0.9), n_trials=1)
    source = read_storage(url)
    assert source.maximised == {"values_1"}
    assert source.trials[0].metrics == {"values_0": study.trials[0].params["x"], "values_1": 0.9}
    optuna.create_study(study_name="other", storage=url)
    with pytest.raises(StudyError, match="holds 2 studies; name one by --study-name: 'other', 'two'"):
        read_storage(url)
    with pytest.raises(StudyError, match=r"--study-name 'three': .* there are 'other', 'two'"):
        read_storage(url, "three")
    assert read_storage(url, "two") == source


def test_an_older_database_is_not_upgraded(sqlite: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    path.write_bytes(sqlite.read_bytes())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StudyError, match=r"old.db: cannot be read as a storage of Optuna .*upgrad"):
        read_storage(str(path))
    assert path.read_bytes() == before


def test_what_is_no_storage(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("not a journal\nat all\n")
    with pytest.raises(StudyError, match="text: cannot be read as a storage of Optuna"):
        read_storage(str(text))
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE notes (x)")
    connection.close()
    before = other.read_bytes()
    with pytest.raises(StudyError, match=r"other.db: cannot be read as a storage of Optuna .*no such table"):
        read_storage(f"sqlite:///{other}")
    assert other.read_bytes() == before
    with pytest.raises(StudyError, match=r"nowhere.db: there is no such file"):
        read_storage(f"sqlite:///{tmp_path}/nowhere.db")
    assert not (tmp_path / "nowhere.db").exists()
    assert not is_storage(str(tmp_path))
    assert not is_storage("s3://bucket/experiment")


def test_pickled_snapshots_are_refused_and_passwords_not_repeated() -> None:
    with pytest.raises(StudyError, match="pickled snapshots") as redis:
        read_storage("redis://:secret@host:6379")
    with pytest.raises(StudyError, match="cannot be read") as database:
        read_storage("postgresql://me:secret@127.0.0.1:9/search")
    assert "secret" not in f"{redis.value}{database.value}"


def test_the_extra_is_named_where_optuna_is_missing(sqlite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(StudyError, match=r"pip install 't1t2-study\[optuna\]'"):
        read_storage(str(sqlite))
