"""Where results come from, as a checkout, an image and an installed package tell it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service import read_events, read_study
from service.client.submission import create_study
from service.records import provenance as module
from service.records.provenance import provenance
from tests.service.studies import run_serially, toy_spec

ROOT = Path(__file__).parents[3]
VARIABLES = ("T1T2_GIT_COMMIT", "T1T2_LOCK_FILE")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that names nothing."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def git(*words: str, at: Path) -> str:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b.c",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b.c",
    }
    return subprocess.run(
        ["git", *words], cwd=at, env=os.environ | identity, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_checkout_names_its_commit_and_whether_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constraints.txt").write_text("numpy==2.0\n")
    git("init", "-q", at=tmp_path)
    git("add", ".", at=tmp_path)
    git("commit", "-q", "-m", "one", at=tmp_path)
    monkeypatch.setattr(module, "SOURCE", tmp_path)
    monkeypatch.setenv("T1T2_GIT_COMMIT", "of the image")  # that this checkout is mounted into
    found = provenance()
    assert found["git_commit"] == git("rev-parse", "HEAD", at=tmp_path)
    assert (found["dirty"], found["diff_sha256"]) == (False, None)
    assert found["lock_file_sha256"] == hashlib.sha256(b"numpy==2.0\n").hexdigest()
    (tmp_path / "constraints.txt").write_text("numpy==2.1\n")
    found = provenance()
    assert found["dirty"] is True
    assert found["diff_sha256"] == hashlib.sha256(f"{git('diff', 'HEAD', at=tmp_path)}\n".encode()).hexdigest()


def installed(place: Path, **variables: str) -> dict[str, Any]:
    """What packages say that were copied into ``place``, without a repository or a lock file beside them."""
    for package in ("service", "trainers"):
        shutil.copytree(ROOT / package, place / package, dirs_exist_ok=True)
    code = "import json, service.records.provenance as p; print(p.__file__, json.dumps(p.provenance()))"
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **variables, "PYTHONPATH": str(place)},
    )
    file, _, values = told.stdout.partition(" ")
    assert file == str(place / "service" / "records" / "provenance.py")
    found: dict[str, Any] = json.loads(values)
    return found


def test_an_installed_package_knows_its_versions_alone(tmp_path: Path) -> None:
    found = installed(tmp_path, T1T2_GIT_COMMIT="", T1T2_LOCK_FILE="/no/such/file")
    for key in ("git_commit", "dirty", "diff_sha256", "lock_file_sha256"):
        assert found[key] is None
    assert found["versions"]["torch"]
    assert found["hardware"]["cpus"] == os.cpu_count()


def test_an_image_names_its_commit_and_its_pins(tmp_path: Path) -> None:
    lock = tmp_path / "constraints.txt"
    lock.write_text("numpy==2.0\n")
    found = installed(tmp_path / "site-packages", T1T2_GIT_COMMIT="0123abcd\n", T1T2_LOCK_FILE=str(lock))
    assert found["git_commit"] == "0123abcd"
    assert found["dirty"] is None, "not known"
    assert found["lock_file_sha256"] == hashlib.sha256(b"numpy==2.0\n").hexdigest()
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert all(name in dockerfile for name in VARIABLES)


def test_a_study_made_elsewhere_tells_where_its_driver_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOURCE", tmp_path)
    monkeypatch.setenv("T1T2_GIT_COMMIT", "0123abcd")
    create_study(toy_spec(), str(tmp_path / "toy"))
    assert read_study(str(tmp_path / "toy"))["provenance"] is None, "not yet known"
    run_serially(toy_spec(), tmp_path / "toy")
    found = read_study(str(tmp_path / "toy"))["provenance"]
    assert found == provenance() | {"threads": 1}
    assert found["git_commit"] == "0123abcd"
    started = [event for event in read_events(str(tmp_path / "toy")) if event.kind == "study_started"]
    assert started[0].fields["git_commit"] == found["git_commit"]
    assert started[0].fields["versions"] == found["versions"]
