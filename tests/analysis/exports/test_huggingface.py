from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.exports.export import export_study
from analysis.study import Study, load_study

PUBLISHED = Path(__file__).parents[3] / "deploy" / "studies" / "layers" / "layers"


@pytest.fixture(autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets", reason="datasets is not installed")
    from datasets import config  # read from the environment when it is imported

    cache = tmp_path_factory.mktemp("datasets")
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(config, "DOWNLOADED_DATASETS_PATH", cache / "downloads")


def test_the_library_finds_a_configuration_for_each_table(tmp_path: Path) -> None:
    import datasets

    study = load_study(PUBLISHED)
    chosen = study.runs.query("arm in ('online', 'rerun')")
    exported = export_study(study, "huggingface", tmp_path / "hub", chosen)
    place = str(tmp_path / "hub")

    assert datasets.get_dataset_config_names(place) == ["runs", "trajectories", "attempts"]
    assert datasets.get_dataset_split_names(place, "runs") == ["train"]
    assert eval(exported.opened_by, {"datasets": datasets}).num_rows == exported.runs == len(chosen)
    runs = datasets.load_dataset(place, split="train")
    assert runs.features["t2_loss"].dtype == "float64"
    assert runs.features["config_index"].dtype == "int32"
    assert runs["run_id"][:] == list(chosen["run_id"])
    assert runs["t2_loss"][:] == list(chosen["t2_loss"])
    points = datasets.load_dataset(place, "trajectories", split="train")
    expected = study.trajectories[study.trajectories["run_id"].isin(chosen["run_id"])]
    assert points["step"][:] == list(expected["step"])
    assert (
        datasets.load_dataset(place, "attempts", split="train").features["started_at"].dtype == "timestamp[us, tz=UTC]"
    )


def test_descriptions_and_order_are_those_of_the_study(tmp_path: Path) -> None:
    export_study(load_study(PUBLISHED), "huggingface", tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    assert "| `t2_error` | double | share of T2 classified wrongly at the end |" in card
    copied = pd.read_parquet(tmp_path / "hub" / "data" / "runs.parquet")
    pd.testing.assert_frame_equal(copied, pd.read_parquet(PUBLISHED / "runs.parquet"))


def test_a_study_without_attempts_has_no_such_configuration(layered: Study, tmp_path: Path) -> None:
    import datasets

    folder = tmp_path / "bare"
    folder.mkdir()
    for table in ("runs", "trajectories"):
        (folder / f"{table}.parquet").write_bytes((Path(layered.location) / f"{table}.parquet").read_bytes())
    export_study(load_study(folder), "huggingface", tmp_path / "hub")
    assert datasets.get_dataset_config_names(str(tmp_path / "hub")) == ["runs", "trajectories"]
