"""Links out of a study, or out of the storage root, are not followed."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import pytest

from service import StudyError
from service.web.links import check_root, local_root
from service.web.routes import respond
from tests.service.toy_studies import run_toy


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage root with a study, beside a secret and a study elsewhere."""
    top = tmp_path_factory.mktemp("top")
    run_toy(top / "root" / "fine", configurations=1)
    run_toy(top / "elsewhere", configurations=1)
    (top / "secret").write_text("the secret")
    return top / "root"


@pytest.mark.parametrize("name", ["report.html", "progress.json", "lease.json", "events/00000000.jsonl"])
def test_a_link_in_a_study_is_not_followed(root: Path, name: str) -> None:
    (root / "fine" / "events").mkdir(exist_ok=True)
    link = root / "fine" / name
    kept = link.read_bytes() if link.exists() else None
    link.unlink(missing_ok=True)
    link.symlink_to(root.parent / "secret")
    try:
        for path in ("/studies/fine/report.html", "/studies/fine", "/api/studies/fine"):
            answer = respond(str(root), path)
            assert answer.status == HTTPStatus.NOT_FOUND
            assert b"secret" not in answer.content
        assert b"/studies/fine" not in respond(str(root), "/").content
    finally:
        link.unlink()
        if kept is not None:
            link.write_bytes(kept)
    assert respond(str(root), "/studies/fine").status == HTTPStatus.OK


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_study_that_is_a_link_out_of_the_root_is_not_served(root: Path, scheme: str) -> None:
    (root / "linked").symlink_to(root.parent / "elsewhere")
    try:
        assert respond(f"{scheme}{root}", "/studies/linked").status == HTTPStatus.NOT_FOUND
        assert b"linked" not in respond(f"{scheme}{root}", "/api/studies").content
    finally:
        (root / "linked").unlink()
    assert respond(f"{scheme}{root}", "/studies/fine").status == HTTPStatus.OK


def test_a_root_that_is_a_link_itself_is_the_users_own_choice(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    assert respond(str(root.parent / "link"), "/studies/fine").status == HTTPStatus.OK


def test_a_directory_that_is_missing_is_refused_and_an_empty_one_is_not(tmp_path: Path) -> None:
    check_root(str(tmp_path))
    check_root(f"file://{tmp_path}")
    assert local_root("s3://bucket/studies") is None
    check_root("s3://bucket/studies")
    (tmp_path / "file").write_text("")
    for name in ("missing", "file"):
        with pytest.raises(StudyError, match=f"{name}': there is no such directory"):
            check_root(str(tmp_path / name))
