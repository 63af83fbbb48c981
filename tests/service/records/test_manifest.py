"""``study.json``: what it says, what may be wrong with it, and which study may run where."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from service.errors import AnotherStudyError, NewerSchemaError, StudyError, StudyNotFoundError
from service.ledger.publish import Published
from service.records.manifest import MANIFEST, Manifest, find_study, read_spec, read_study
from service.spec.plan import make_plan
from service.storage.checked_json import loads_checked
from service.storage.files import Storage, open_storage
from tests.service.storage.memory import Memory
from tests.service.studies import toy_spec

ROOT = Path(__file__).parents[3]
KEYS = ["schema_version", "study_hash", "spec", "pack_size", "seeds", "created_at", "provenance", "tables", "planned"]


@pytest.fixture
def manifest() -> Manifest:
    return Manifest.of(make_plan(toy_spec()))


def test_a_new_study(manifest: Manifest) -> None:
    storage = Storage(Memory())
    manifest.save(storage)
    assert Manifest.load(storage) == manifest
    written = json.loads(storage.read(MANIFEST))
    assert list(written) == [*KEYS, "sha256"]
    assert storage.read(MANIFEST) == json.dumps(written, indent=1).encode()
    assert written["spec"] == toy_spec().to_dict()
    assert written["planned"] == {"initial": 6, "online": 6, "rerun": 6, "grid": 24}
    assert (written["provenance"], written["tables"]) == (None, None)
    assert (manifest.name, manifest.configurations) == ("toy", 3)


def test_a_study_of_an_earlier_version_is_written_as_it_was_read_with_a_checksum() -> None:
    before = (ROOT / "deploy" / "studies" / "mnist" / MANIFEST).read_bytes()
    storage = Storage(Memory())
    storage.write(MANIFEST, before)
    Manifest.load(storage).save(storage)
    after = json.loads(storage.read(MANIFEST))
    assert list(after) == [*json.loads(before), "sha256"]
    assert loads_checked(storage.read(MANIFEST), MANIFEST) == json.loads(before)


def test_changes_make_new_manifests(manifest: Manifest) -> None:
    larger = manifest.extended(make_plan(toy_spec(configurations=5), manifest.pack_size))
    assert (larger.configurations, larger.planned["online"]) == (5, 10)
    finished = larger.with_provenance({"git_commit": "0123"}).with_tables({"runs": Published(3, "ab" * 32)})
    assert finished.provenance == {"git_commit": "0123"}
    assert finished.tables is not None
    assert list(finished.tables) == ["runs", "published_at", "sha256"]
    assert finished.checksums == {"runs": "ab" * 32}
    assert manifest.checksums == {}, "none before, and none in tables of earlier versions"
    same = ("study_hash", "pack_size", "seeds", "created_at", "schema_version")
    assert [getattr(finished, name) for name in same] == [getattr(manifest, name) for name in same]
    assert (manifest.configurations, manifest.tables) == (3, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        manifest.tables = {}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planned": None}, "unusable: planned"),
        ({"planned": {"online": "six"}}, "unusable: planned.online"),
        ({"pack_size": "auto", "tables": 3}, "unusable: pack_size, tables"),
        ({"spec": {"name": "toy"}}, "spec: must have a name and a number of configurations"),
        ({"schema_version": "1"}, "unusable: schema_version"),
    ],
)
def test_values_that_cannot_be_used(manifest: Manifest, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(dataclasses.asdict(manifest) | changes))
    with pytest.raises(StudyError) as caught:
        read_study(str(tmp_path))
    mending = f"put a copy of it back, or have it written anew from this study's spec:  t1t2 run SPEC --out {tmp_path}"
    assert str(caught.value) == f"{tmp_path}/study.json: is damaged ({message}); {mending}"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"null"])
def test_what_is_no_json_object(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(StudyError, match=r"study.json: is damaged \(") as caught:
        read_study(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_every_missing_key_is_named(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"schema_version": 1, "spec": {}, "pack_size": 1, "provenance": null}')
    with pytest.raises(StudyError, match=r"is damaged \(lacks study_hash, seeds, created_at, planned\)"):
        read_study(str(tmp_path))


def test_a_newer_version_is_refused_whatever_else_it_holds(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"schema_version": 99}')
    with pytest.raises(NewerSchemaError, match=r"study.json: written in schema version 99, this package reads up to"):
        read_study(str(tmp_path))


def test_users_read_a_dictionary_with_all_that_is_in_the_file(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(dataclasses.asdict(manifest) | {"note": "mine"}))
    found = read_study(str(tmp_path))
    assert list(found) == [*KEYS, "note"]
    assert read_spec(str(tmp_path)) == toy_spec()
    with pytest.raises(StudyNotFoundError, match=r"nowhere: holds no study \(no study.json\)"):
        read_study(str(tmp_path / "nowhere"))


def test_where_a_study_may_run(manifest: Manifest) -> None:
    storage = Storage(Memory())
    for name in ("lease.json", "control/request.json"):  # of a driver that waits, of somebody who asked too early
        storage.write(name, b"{}")
    spec, found = find_study(toy_spec(), storage)
    assert (spec, found) == (toy_spec(), None)
    manifest.save(storage)
    assert find_study(toy_spec(), storage) == (toy_spec(), manifest)
    assert find_study(toy_spec(configurations=9), storage)[0].configurations == 9
    assert find_study(toy_spec(configurations=1), storage)[0].configurations == 3, "a study never shrinks"
    with pytest.raises(AnotherStudyError, match="seed: 6 here, 5 in the study"):
        find_study(toy_spec(seed=6), storage)


def test_a_study_of_an_earlier_version_with_other_results_is_not_gone_on_with(manifest: Manifest) -> None:
    """Its spec had another hash then. Half of its runs would be of one law and half of another."""
    storage = Storage(Memory())
    dataclasses.replace(manifest, study_hash="0" * 64).save(storage)
    with pytest.raises(StudyError, match=r"was begun by an earlier version .* but only that version can go on with it"):
        find_study(toy_spec(), storage)


def test_a_place_with_something_else_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_text("")
    with pytest.raises(StudyError, match=r"holds no study, yet is not empty \(a, b, c …\); give a new directory"):
        find_study(toy_spec(), open_storage(tmp_path))
