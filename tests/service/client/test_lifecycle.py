from pathlib import Path

import pytest

from service import AnotherStudyError, StudyError, StudySpec, read_status
from service.client.lifecycle import create_study, discard_study
from service.storage.files import open_storage
from tests.service.toy_studies import TOY, run_toy

SPEC = StudySpec.from_dict(TOY)


def test_a_study_is_created_once_and_waits_for_its_driver(tmp_path: Path) -> None:
    uri = str(tmp_path / "root" / "toy")
    assert create_study(SPEC, uri)
    assert not create_study(SPEC, uri)
    status = read_status(uri)
    assert (status.state, status.driven) == ("waiting", False)
    assert status.planned == {"initial": 6, "online": 6, "rerun": 6, "grid": 16}
    with pytest.raises(AnotherStudyError, match="seed: 8 here, 7 in the study"):
        create_study(StudySpec.from_dict({**TOY, "seed": 8}), uri)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="file"):
        create_study(SPEC, str(tmp_path / "file" / "toy"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_discarded_study_leaves_what_was_there_before(tmp_path: Path) -> None:
    uri = str(tmp_path / "new" / "root" / "toy")
    standing = open_storage(uri).nearest_directory()
    assert standing == tmp_path
    create_study(SPEC, uri)
    discard_study(uri, keep=standing)
    assert not list(tmp_path.iterdir())


def test_a_study_with_results_is_not_discarded(tmp_path: Path) -> None:
    run_toy(tmp_path / "toy", configurations=1)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StudyError, match="a study with results is not discarded"):
        discard_study(str(tmp_path / "toy"))
    assert sorted(tmp_path.rglob("*")) == before
