from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from analysis.statistics.comparison import compare_studies
from analysis.study import Study, load_study
from tests.analysis.synthetic import Truth, write_study


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The same problem without a grid, under an estimator that leaves most runs where they start and costs more."""
    truth = Truth(stay=0.8, overhead=2.0)
    return load_study(
        write_study(
            tmp_path_factory.mktemp("weak") / "weak",
            truth=truth,
            models=("mlp-64",),
            arms=("initial", "online"),
            name="weak",
            estimator="t1t2",
            seed=5,
        )
    )


def test_estimators_side_by_side(study: Study, weak: Study) -> None:
    frame = compare_studies([study, weak])
    assert frame[["study", "estimator", "model"]].values.tolist() == [
        ["synthetic", "forward", "mlp-64"],
        ["synthetic", "forward", "mlp-128"],
        ["weak", "t1t2", "mlp-64"],
    ]
    strong_row, _, weak_row = frame.to_dict("records")
    assert weak_row["reference"] == "synthetic"  # the region of the study that has a grid
    assert weak_row["volume"] == strong_row["volume"]
    assert strong_row["end_share"] > 0.6 > 0.5 > weak_row["end_share"]
    assert strong_row["end_share_low"] <= strong_row["end_share"] <= strong_row["end_share_high"]
    assert weak_row["online_test_loss"] > strong_row["online_test_loss"]
    assert np.isnan(weak_row["rerun_test_loss"])
    assert weak_row["cost"] == pytest.approx(2.0, abs=0.05)
    assert strong_row["cost"] == pytest.approx(1.12, abs=0.03)
    assert strong_row["best_cell_test_loss"] < strong_row["online_test_loss"]


def test_a_region_is_not_borrowed_from_another_problem(study: Study, weak: Study) -> None:
    other = dataclasses.replace(weak, spec=json.loads(json.dumps(weak.spec)) | {"data": {"name": "another"}})
    row = compare_studies([study, other]).iloc[-1]
    assert row["reference"] is None or np.isnan(row["reference"])
    assert np.isnan(row["volume"])
    assert "no grid arm for model mlp-64" in row["reason"]


def test_without_any_grid_the_rest_is_there(weak: Study, tmp_path: Path) -> None:
    frame = compare_studies([weak])
    assert frame["cost"][0] > 1.5
    assert np.isfinite(frame["online_test_loss"][0])
    lone = load_study(write_study(tmp_path / "lone", models=("mlp-64",), arms=("online",)))
    row = compare_studies([lone]).iloc[0]
    assert row["reason"].count("no ") >= 2  # neither a grid nor an initial arm
