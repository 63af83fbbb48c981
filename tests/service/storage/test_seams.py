"""A backend that is not the service's own: a study runs on it, and all that reads studies reads this one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from service import list_studies, read_events, read_spec, read_status, request, resume_study, run_study
from service.executors.serial import SerialExecutor
from service.storage.files import BACKENDS, Storage
from service.storage.lease_record import is_held
from tests.service.storage.memory import Memory
from tests.service.studies import VARYING, run_serially, table, toy_spec


def published(storage: Storage) -> pd.DataFrame:
    with storage.open("runs.parquet") as file:
        frame: pd.DataFrame = pq.read_table(file).to_pandas()
    return frame.drop(columns=VARYING)


def test_a_study_on_a_backend_that_is_handed_over(tmp_path: Path) -> None:
    storage = Storage(Memory())
    assert run_study(toy_spec(), storage, executor=SerialExecutor()).state == "completed"
    run_serially(toy_spec(), tmp_path / "toy")
    expected = table(tmp_path / "toy").drop(columns=VARYING)
    pd.testing.assert_frame_equal(published(storage), expected, check_exact=True)
    assert not storage.files("ledger/runs")
    assert not is_held(storage)


def test_a_study_on_a_backend_that_a_scheme_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "memory", partial(Memory, files={}))
    uri = "memory://studies/toy"
    run_serially(toy_spec(execution={"checkpoint_every": 100}), uri)
    assert [(found.name, found.state, found.total_done) for found in list_studies("memory://studies")] == [
        ("toy", "completed", 42)
    ]
    request(uri, "extend", configurations=4)
    assert resume_study(uri, executor=SerialExecutor()).planned["online"] == 8
    assert read_spec(uri).configurations == 4
    assert read_status(uri).state == "completed"
    assert "extended" in [event.kind for event in read_events(uri)]
