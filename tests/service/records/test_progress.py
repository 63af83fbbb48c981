"""``progress.json`` and the listing of studies."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import pytest

from service.errors import SpecError, StudyError
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
from service.storage.files import BACKENDS, Storage, open_storage
from service.storage.lease import Lease
from tests.service.storage.memory import Memory
from tests.service.studies import toy_spec

RUNNING = StudyStatus(
    name="toy",
    study_hash="0123",
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
    assert read_in_flight(storage) is None


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_written_is_read(storage: Storage, durable: bool) -> None:
    finished = dataclasses.replace(RUNNING, state="completed", error=None, elapsed_s=3)
    write_progress(storage, finished, [("a", 1), ("b", 2)], durable=durable)
    assert read_status(storage.uri) == dataclasses.replace(finished, uri=storage.uri), "where it is now"
    assert read_in_flight(storage) == [("a", 1), ("b", 2)]
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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"{}", "lacks status"),
        (
            b'{"status": {"name": 1, "state": "running", "planned": {}, "done": {}}}',
            "lacks status.study_hash, status.uri",
        ),
        (b'{"status": "completed"}', "unusable: status"),
    ],
)
def test_a_damaged_file(storage: Storage, content: bytes, reason: str) -> None:
    storage.write(PROGRESS, content)
    with pytest.raises(StudyError) as caught:
        read_status(storage.uri)
    assert str(caught.value).startswith(f"{storage.uri}/progress.json: is damaged ({reason}")
    assert read_in_flight(storage) is None, "a driver goes on without it"


def test_keys_of_a_later_version_are_passed_over(storage: Storage) -> None:
    write_progress(storage, RUNNING, [], durable=False)
    storage.write(PROGRESS, storage.read(PROGRESS).replace(b'"lost": 0', b'"lost": 5, "joules": 7'))
    assert read_status(storage.uri).lost == 5


def test_a_listing_has_the_studies_directly_below(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "no-study").mkdir()
    (tmp_path / "file").write_text("")
    for name, content in {"a": b"{", "z": storage.read("study.json").replace(b": 1,", b": 99,", 1)}.items():
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
