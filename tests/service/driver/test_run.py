"""A study from its creation to its tables, resumed and extended, in one process; and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from service import (
    AnotherStudyError,
    NewerSchemaError,
    SpecError,
    StudyBusyError,
    StudyError,
    StudyNotFoundError,
    list_studies,
    read_spec,
    read_status,
    read_study,
    request,
    resume_study,
    run_study,
    study_uri,
)
from service.client.submission import create_study
from service.executors.base import Notice, Outcome, WorkerSetup
from service.executors.serial import SerialExecutor
from service.ledger.schema import SCHEMA_VERSION, schemas
from service.storage.checked_json import loads_checked
from service.storage.files import open_storage
from service.storage.lease import Lease
from tests.service.studies import assert_complete, assert_same_results, run_serially, table, toy_spec
from tests.trainers.idx import small_mnist, write_mnist


class IdleExecutor(SerialExecutor):
    """Is not to be asked for anything."""

    def wait(self, timeout_s: float) -> list[Outcome]:
        raise AssertionError("there is nothing to wait for")


def test_a_study_is_complete_and_leaves_no_shards(calm: Path) -> None:
    assert_complete(calm, toy_spec())
    assert not list(calm.glob("ledger/**/*.parquet"))
    assert {path.name for path in calm.iterdir()} == {
        "study.json",
        "progress.json",
        "events",
        "ledger",
        "runs.parquet",
        "trajectories.parquet",
        "attempts.parquet",
        "lease.json",
        "lease",
    }
    status = read_status(str(calm))
    assert (status.state, status.total_done, status.completed) == ("completed", 42, 42)


def test_tables_have_the_documented_schema_and_order(calm: Path) -> None:
    names = ["log10_l2_layer1", "log10_l2_layer2", "log10_l2_layer3", "input_noise_std"]
    for name, schema in schemas(names).items():
        found = pq.read_schema(calm / f"{name}.parquet")
        assert found.remove_metadata().equals(schema.remove_metadata(), check_metadata=True)
        assert {key: found.metadata[key] for key in schema.metadata} == schema.metadata
        assert all(field.metadata[b"description"] for field in found)
    runs, points = table(calm), table(calm, "trajectories")
    assert list(runs["arm"][:6]) == ["initial", "online", "rerun"] * 2
    assert list(points["run_id"].drop_duplicates()) == list(runs["run_id"])
    assert points.groupby("run_id", sort=False)["step"].is_monotonic_increasing.all()
    assert set(table(calm, "attempts")["run_id"]) == set(runs["run_id"])


def test_reruns_start_where_their_online_runs_ended_even_outside_the_box(tmp_path: Path) -> None:
    narrow = {"log10_l2": {"low": -3.0, "high": -2.999}, "input_noise_std": {"low": 0.5, "high": 0.501}}
    spec = toy_spec(hyperparameters=narrow, arms=["initial", "online", "rerun"])
    run_serially(spec, tmp_path / "toy")
    assert_complete(tmp_path / "toy", spec)
    runs = table(tmp_path / "toy")
    online = runs[runs["arm"] == "online"]
    for name, box in narrow.items():
        assert online[f"{name}_initial"].between(box["low"], box["high"]).all()
        assert (online[f"{name}_final"] > box["high"]).any(), "not clamped, not refused"


def test_the_manifest_says_what_was_run_and_where(calm: Path) -> None:
    study = read_study(str(calm))
    assert study["schema_version"] == SCHEMA_VERSION
    assert study["study_hash"] == toy_spec().hash == read_spec(str(calm)).hash
    tables = study["tables"]
    assert [tables[name] for name in ("runs", "trajectories", "attempts")] == [42, 84, 42]
    assert study["provenance"]["hardware"]["cpus"] == os.cpu_count()
    assert study["provenance"]["versions"]["torch"]


def test_a_finished_study_is_not_trained_again(calm: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(calm, out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert run_study(toy_spec(), out, executor=IdleExecutor()).state == "completed"
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == before


def test_extension_keeps_what_is_there(calm: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "grown", tmp_path / "whole"
    shutil.copytree(calm, out)
    run_serially(toy_spec(configurations=5), out)
    run_serially(toy_spec(configurations=5), whole)
    assert_same_results(out, whole)
    assert len(table(out, "attempts")) == len(table(out)), "no run of the smaller study was trained again"


def test_a_study_from_before_a_column_is_extended(calm: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "grown", tmp_path / "whole"
    shutil.copytree(calm, out)
    for name, column in (("runs", "test_error"), ("trajectories", "t2_loss"), ("attempts", "device")):
        rows = pq.read_table(out / f"{name}.parquet").drop_columns([column])
        pq.write_table(rows.replace_schema_metadata({"schema_version": "1"}), out / f"{name}.parquet")
    study = json.loads((out / "study.json").read_text())
    del study["tables"]["sha256"]
    study.pop("sha256", None)
    (out / "study.json").write_text(json.dumps(study))
    run_serially(toy_spec(configurations=5), out)
    run_serially(toy_spec(configurations=5), whole)
    grown, fresh = table(out), table(whole)
    assert list(grown.columns) == list(fresh.columns)
    assert grown["run_id"].equals(fresh["run_id"])
    had = grown["run_id"].isin(table(calm)["run_id"])
    assert grown.loc[had, "test_error"].isna().all()
    assert grown.loc[~had, "test_error"].equals(fresh.loc[~had, "test_error"])


def test_extension_by_request_and_then_the_old_spec(calm: Path, tmp_path: Path) -> None:
    out = tmp_path / "grown"
    shutil.copytree(calm, out)
    request(str(out), "extend", configurations=4)
    assert run_serially(toy_spec(), out).planned["online"] == 8
    assert run_serially(toy_spec(), out).planned["online"] == 8, "a study never shrinks"
    with pytest.raises(StudyError, match="configurations = 3: must be a whole number, at least the study's 4"):
        request(str(out), "extend", configurations=3)


def test_an_actor_computes_with_as_many_threads_as_when_the_study_began(tmp_path: Path) -> None:
    seen: list[int | None] = []

    class Noting(SerialExecutor):
        def start(self, setup: WorkerSetup, notice: Notice) -> None:
            seen.append(setup.threads)
            super().start(dataclasses.replace(setup, threads=None), notice)

    for configurations, cpus in ((1, 3.9), (2, 1), (3, 500)):
        spec = toy_spec(configurations=configurations, execution={"cpus_per_actor": cpus})
        run_study(spec, tmp_path, executor=Noting())
    assert seen == [3, 3, 3]
    manifest = json.loads((tmp_path / "study.json").read_text())
    assert (manifest["provenance"]["threads"], manifest["spec"]["execution"]["cpus_per_actor"]) == (3, 500)


def test_a_newer_schema_is_refused(calm: Path, tmp_path: Path) -> None:
    out = tmp_path / "toy"
    shutil.copytree(calm, out)
    content = pq.read_table(out / "runs.parquet")
    pq.write_table(content.replace_schema_metadata({"schema_version": "99"}), out / "runs.parquet")
    with pytest.raises(NewerSchemaError, match=r"runs.parquet: written in schema version 99, this package reads up to"):
        run_serially(toy_spec(), out)
    study = loads_checked((out / "study.json").read_bytes(), "study.json")
    (out / "study.json").write_text(json.dumps(study | {"schema_version": 99}))
    with pytest.raises(NewerSchemaError, match=r"study.json: written in schema version 99"):
        read_status(str(out))


def test_another_spec_is_refused_with_the_differing_keys(calm: Path) -> None:
    with pytest.raises(AnotherStudyError) as error:
        run_serially(toy_spec(seed=6, inner={"steps": 3}), calm)
    assert error.value.differences == ["inner.steps: 3 here, 2000 in the study", "seed: 6 here, 5 in the study"]
    assert "'toy'" in str(error.value)


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear …")
    with pytest.raises(StudyError, match=r"holds no study, yet is not empty \(letters.txt\)"):
        run_serially(toy_spec(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


def test_unusable_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"file/toy: cannot be read .*Not a directory"):
        run_serially(toy_spec(), tmp_path / "file" / "toy")
    with pytest.raises(StudyError, match=r"/proc/toy: cannot be written"):
        run_serially(toy_spec(), "/proc/toy")
    with pytest.raises(StudyError, match="cannot be opened"):
        run_serially(toy_spec(), "gopher://hole")
    with pytest.raises(StudyNotFoundError, match="holds no study"):
        read_status(str(tmp_path / "nowhere"))
    with pytest.raises(SpecError, match=r"name = '../x'"):
        study_uri(str(tmp_path), "../x")


@pytest.mark.parametrize(
    "values",
    [
        {"trainer": "t1t2", "data": {"t1_size": 10**6}},
        {"trainer": "t1t2", "data": {"name": "nothing"}},
        {"trainer": "tests.service.toy:nothing"},
        {"trainer": "t1t2", "data": {"name": "mnist", "root": "/nowhere"}},
    ],
)
def test_what_cannot_be_trained_leaves_nothing_behind(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(StudyError) as error:
        run_serially(toy_spec(**values), tmp_path / "toy")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_spec_made_in_python_has_its_data_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / "files", small_mnist())
    monkeypatch.chdir(tmp_path)
    spec = toy_spec(
        trainer="t1t2",
        arms=["initial"],
        configurations=1,
        inner={"steps": 2, "batch_size": 10},
        outer={"batch_size": 10},
        data={"name": "mnist", "root": "files", "t1_size": 30, "t2_size": 10, "test_size": 20},
    )
    create_study(spec, str(tmp_path / "toy"))
    assert read_spec(str(tmp_path / "toy")).data.root == str(tmp_path / "files")
    monkeypatch.chdir("/")
    assert resume_study(str(tmp_path / "toy"), executor=SerialExecutor()).completed == 2


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "toy"
    lease = Lease(open_storage(out))
    lease.acquire()
    try:
        with pytest.raises(StudyBusyError, match=f"the driver .*:{os.getpid()} is running this study"):
            run_serially(toy_spec(), out)
    finally:
        lease.release()


def test_studies_below_a_root_are_listed(calm: Path) -> None:
    assert [status.name for status in list_studies(str(calm.parent))] == ["toy"]
