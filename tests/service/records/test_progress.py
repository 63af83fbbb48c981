"""``progress.json`` and the listing of studies."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import pytest

from service.errors import SpecError
from service.records.manifest import Manifest
from service.records.progress import (
    PROGRESS,
    StudyStatus,
    list_studies,
    read_in_flight,
    read_status,
    study_uri,
    write_progress,
)
from service.spec.plan import make_plan
from service.storage.checked_json import dumps_checked, loads_checked
from service.storage.files import BACKENDS, Storage, open_storage
from service.storage.lease import Lease
from tests.service.storage.memory import Memory
from tests.service.studies import run_serially, toy_spec

RUNNING = StudyStatus(
    name="toy",
    study_hash=toy_spec().hash,
    uri="where it was",
    state="running",
    planned={"online": 6},
    done={"online": 2},
    completed=2,
    in_flight=1,
    actors=1,
    runs_per_s=2.0,
    seconds_left=2.0,
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A study of which nothing is known but its manifest."""
    storage = open_storage(tmp_path / "toy", tries=1)
    Manifest.of(make_plan(toy_spec())).save(storage)
    return storage


def test_a_study_that_no_driver_has_begun(storage: Storage) -> None:
    status = read_status(storage.uri)
    assert (status.state, status.name, status.study_hash) == ("waiting", "toy", toy_spec().hash)
    assert (status.total_planned, status.total_done) == (42, 0)
    assert read_in_flight(storage, toy_spec().hash) is None


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_written_is_read(storage: Storage, durable: bool) -> None:
    finished = dataclasses.replace(RUNNING, state="completed", error=None, elapsed_s=3)
    write_progress(storage, finished, [("a", 1), ("b", 2)], durable=durable)
    assert read_status(storage.uri) == dataclasses.replace(finished, uri=storage.uri), "where it is now"
    assert read_in_flight(storage, toy_spec().hash) == [("a", 1), ("b", 2)]
    assert read_status(storage.uri).finished


@pytest.mark.parametrize("state", ["running", "paused"])
def test_without_a_living_driver_it_is_interrupted(storage: Storage, state: str) -> None:
    write_progress(storage, dataclasses.replace(RUNNING, state=state), [], durable=False)  # type: ignore[arg-type]
    status = read_status(storage.uri)
    assert (status.state, status.in_flight, status.actors, status.runs_per_s) == ("interrupted", 0, 0, None)
    lease = Lease(storage)
    lease.acquire()
    try:
        assert read_status(storage.uri).state == state
    finally:
        lease.release()


WRONG_TYPES = b'{"status": {"name": 1, "state": "running", "planned": {}, "done": {}}}'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"{}", "lacks status"),
        (WRONG_TYPES, "lacks status.study_hash, status.uri; unusable: status.name"),
        (b'{"status": "completed"}', "unusable: status"),
        (b"[" * 100_000, "it is nested too deeply"),
    ],
    ids=["empty", "no status", "wrong types", "a word", "deep"],
)
def test_a_damaged_file_keeps_nobody_from_looking(storage: Storage, content: bytes, reason: str) -> None:
    storage.write(PROGRESS, content)
    status = read_status(storage.uri)
    assert str(status.error).startswith(f"{storage.uri}/progress.json: is damaged ({reason}")
    assert "the next driver writes it anew" in str(status.error)
    assert (status.state, status.total_done, status.total_planned) == ("interrupted", 0, 42)
    assert [found.error for found in list_studies(storage.uri.removesuffix("/toy"))] == [status.error]
    assert read_in_flight(storage, toy_spec().hash) is None, "a driver goes on without it"


def test_without_progress_the_ledger_tells_how_far_a_study_is(tmp_path: Path) -> None:
    spec = toy_spec(trainer="tests.service.toy:failing", configurations=20)
    before = run_serially(spec, tmp_path / "toy")
    storage = open_storage(tmp_path / "toy")
    storage.write(PROGRESS, b"")
    status = read_status(storage.uri)
    same = ("state", "done", "planned", "completed", "diverged", "failed", "name", "study_hash")
    assert [getattr(status, name) for name in same] == [getattr(before, name) for name in same]
    assert status.failed > 0 < status.diverged
    storage.delete(PROGRESS)
    assert read_status(storage.uri) == dataclasses.replace(
        status, error=str(status.error).replace("it is empty", "it is missing")
    )
    storage.write(PROGRESS, b"")
    lease = Lease(storage)
    lease.acquire()
    try:
        assert read_status(storage.uri).state == "running"
    finally:
        lease.release()
    storage.write("runs.parquet", b"damaged")
    status = read_status(storage.uri)
    assert (status.state, status.total_done) == ("interrupted", 0)
    assert "without runs.parquet, which cannot be read" in str(status.error)


@pytest.mark.parametrize("other", [{"study_hash": "0123"}, {"name": "another"}])
def test_the_progress_of_another_study_is_noticed(storage: Storage, other: dict[str, str]) -> None:
    write_progress(storage, dataclasses.replace(RUNNING, **other), [("a", 1)], durable=True)  # type: ignore[arg-type]
    status = read_status(storage.uri)
    assert (status.name, status.study_hash, status.total_done) == ("toy", toy_spec().hash, 0)
    assert "progress.json: is damaged (it is of another study or spec" in str(status.error)
    if "study_hash" in other:
        assert read_in_flight(storage, toy_spec().hash) is None, "its attempts are none of this study's"


def test_keys_of_a_later_version_are_passed_over(storage: Storage) -> None:
    write_progress(storage, RUNNING, [], durable=False)
    values = loads_checked(storage.read(PROGRESS), PROGRESS)
    values["status"] |= {"lost": 5, "joules": 7}
    storage.write(PROGRESS, dumps_checked(values))
    assert read_status(storage.uri).lost == 5


def test_a_listing_has_the_studies_directly_below(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "no-study").mkdir()
    (tmp_path / "file").write_text("")
    for name, content in {"a": b"{", "z": b'{"schema_version": 99}'}.items():
        open_storage(tmp_path / name).write("study.json", content)
    found = list_studies(str(tmp_path))
    assert [(status.name, status.state) for status in found] == [
        ("a", "unreadable"),
        ("toy", "waiting"),
        ("z", "unreadable"),
    ]
    assert [status.uri for status in found] == [f"{tmp_path}/{name}" for name in ("a", "toy", "z")]
    assert "a/study.json: is damaged" in str(found[0].error)
    assert "z/study.json: written in schema version 99" in str(found[2].error)
    assert not found[0].finished


def test_a_study_whose_storage_fails_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[str, bytes] = {}
    monkeypatch.setitem(BACKENDS, "memory", partial(Memory, files=files))
    monkeypatch.setattr("service.storage.files.time.sleep", lambda seconds: None)
    for name in ("a", "b"):
        Manifest.of(make_plan(toy_spec())).save(open_storage(f"memory://root/{name}"))
    read = Memory.read

    def fail(memory: Memory, name: str) -> bytes:
        if memory.uri.endswith("/a"):
            raise PermissionError("not yours")
        return read(memory, name)

    monkeypatch.setattr(Memory, "read", fail)
    assert [(status.state, status.error) for status in list_studies("memory://root")] == [
        ("unreadable", "memory://root/a: cannot be read (not yours)"),
        ("waiting", None),
    ]


def test_a_name_is_one_part_of_a_path(tmp_path: Path) -> None:
    assert study_uri(str(tmp_path), "toy") == f"{tmp_path}/toy"
    with pytest.raises(SpecError, match=r"name = '../x'"):
        study_uri(str(tmp_path), "../x")
