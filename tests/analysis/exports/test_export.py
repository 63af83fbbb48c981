from __future__ import annotations

from pathlib import Path

import pytest

from analysis.exports.export import export_study
from analysis.files import StudyError
from analysis.study import Study


def test_an_unknown_target_is_refused_with_the_nearest(layered: Study, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"--to 'huggingfase': must be one of .*\(did you mean huggingface\?\)"):
        export_study(layered, "huggingfase", tmp_path / "out")
    with pytest.raises(StudyError, match=r"--to 'excel': must be one of [a-z, -]+$"):
        export_study(layered, "excel", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_filled_and_any_other_is_left_alone(layered: Study, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export_study(layered, "csv", tmp_path / "empty")
    before = {path: path.read_bytes() for path in (tmp_path / "empty").iterdir()}
    with pytest.raises(StudyError, match="is there already: must be a new or an empty directory"):
        export_study(layered, "csv", tmp_path / "empty")
    assert {path: path.read_bytes() for path in (tmp_path / "empty").iterdir()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StudyError, match="is there already"):
        export_study(layered, "csv", tmp_path / "file")
    with pytest.raises(StudyError, match="must be a directory on this machine"):
        export_study(layered, "csv", "s3://bucket/export")
    with pytest.raises(StudyError, match=r"cannot be written \(Not a directory\)"):
        export_study(layered, "csv", tmp_path / "file" / "below")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_the_home_of_an_unknown_user_is_a_name_like_any_other(
    layered: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export_study(layered, "csv", "~nobody-of-that-name/csv")
    assert (tmp_path / "~nobody-of-that-name" / "csv" / "runs.csv").is_file()


def test_no_run_is_refused(layered: Study, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no run was chosen"):
        export_study(layered, "csv", tmp_path / "out", layered.runs.query("t2_loss < 0"))
    assert list(tmp_path.iterdir()) == []
