from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from analysis.exports.selection import Selection
from analysis.study import Study, load_study
from tests.analysis.synthetic import write_study


def test_runs_come_in_the_order_of_the_frame_with_all_their_points(layered: Study) -> None:
    frame = layered.runs.query("arm != 'rerun'").iloc[::-1]
    runs = list(Selection(study=layered, frame=frame).runs())
    assert [run.row["run_id"] for run in runs] == list(frame["run_id"])
    for run in runs:
        points = layered.trajectories[layered.trajectories["run_id"] == run.row["run_id"]]
        assert [point["step"] for point in run.points] == sorted(points["step"])
        known = points.sort_values("step").dropna(subset="t2_loss")
        losses = [point["t2_loss"] for point in run.points]
        assert [loss for loss in losses if loss is not None] == list(known["t2_loss"])
        [attempt] = layered.attempts[layered.attempts["run_id"] == run.row["run_id"]].to_dict("records")
        assert (run.started, run.finished) == (attempt["started_at"], attempt["finished_at"])


def test_what_is_not_finite_is_no_result(layered: Study) -> None:
    [run] = Selection(study=layered, frame=layered.runs.query("status == 'diverged' and arm == 'online'")[:1]).runs()
    assert run.results().keys() == {"steps", "train_time_s"}
    assert run.starts().keys() == {"log10_l2_layer1", "log10_l2_layer2", "input_noise_std"}
    [run] = Selection(study=layered, frame=layered.runs.query("status == 'completed' and arm == 'online'")[:1]).runs()
    assert run.results()["test_loss"] == run.row["test_loss"]
    assert list(run.scalars())[-1][1]["hypergradient_input_noise_std"] == pytest.approx(0, abs=1e-12)


def test_a_box_is_as_wide_as_its_values(layered: Study) -> None:
    frame = layered.runs.copy()
    frame.loc[frame.index[0], "input_noise_std_final"] = 0.8000001  # a clamped value of float32
    boxes = Selection(study=layered, frame=frame).boxes
    assert boxes["input_noise_std"] == (0.0, 0.8000001)
    assert boxes["log10_l2_layer1"][1] == -2.5
    assert boxes["log10_l2_layer1"][0] == frame["log10_l2_layer1_initial"].min() < -5.5


def test_a_box_is_finite_where_a_run_has_diverged_to_infinity(layered: Study) -> None:
    frame = layered.runs.copy()
    frame.loc[frame.index[0], "input_noise_std_final"] = math.inf
    assert Selection(study=layered, frame=frame).boxes == Selection(study=layered, frame=layered.runs).boxes


def test_a_running_study_is_read_from_its_shards(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "running", configurations=4, grid=(2, 2), shards=2))
    runs = list(Selection(study=study, frame=study.runs).runs())
    assert [run.row["run_id"] for run in runs] == list(study.runs["run_id"])
    assert [len(run.points) for run in runs] == [10] * len(study.runs)


def test_a_study_of_runs_alone(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "runs", configurations=2, grid=(2, 2), bare=True)
    (folder / "trajectories.parquet").unlink()
    (folder / "attempts.parquet").unlink()
    study = load_study(folder)
    runs = list(Selection(study=study, frame=study.runs).runs())
    assert [run.points for run in runs] == [[]] * len(study.runs)
    assert {run.finished for run in runs} == {pd.Timestamp(0, tz="UTC")}


def test_what_the_study_leaves_out_stays_out(layered: Study) -> None:
    study = load_study(layered.location, filters=[("arm", "==", "online")])
    rows = [batch.to_pandas() for batch in study.stream("trajectories", list(layered.runs["run_id"]))]
    assert set(pd.concat(rows)["arm"]) == {"online"}
    assert [run.row["arm"] for run in Selection(study=study, frame=study.runs).runs()] == ["online"] * len(study.runs)
