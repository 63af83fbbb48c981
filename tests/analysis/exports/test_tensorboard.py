from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.exports.export import export_study
from analysis.study import Study, load_study
from tests.analysis.exports.server import serving

pytest.importorskip("tensorboard", reason="tensorboard is not installed")


@pytest.fixture(scope="module")
def events(layered: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "tensorboard"
    assert export_study(layered, "tensorboard", out).opened_by == f"tensorboard --logdir {out}"
    return out


def test_scalars_are_the_trajectory_and_the_results(layered: Study, events: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = layered.runs.query("arm == 'online'")
    assert set(runs["status"]) == {"completed", "diverged"}
    for row in runs.to_dict("records"):
        folder = events / row["model"] / row["arm"] / str(row["config_index"]) / str(row["replicate"])
        read = EventAccumulator(str(folder))
        read.Reload()
        points = layered.trajectories[layered.trajectories["run_id"] == row["run_id"]]
        for column in ("input_noise_std", "hypergradient_log10_l2_layer2", "t2_loss"):
            known = points.dropna(subset=column)
            tag = f"trajectory/{column}"
            scalars = read.Scalars(tag) if tag in read.Tags()["scalars"] else []
            assert [scalar.step for scalar in scalars] == list(known["step"])
            assert [np.float32(scalar.value) for scalar in scalars] == list(known[column].astype(np.float32))
        completed = row["status"] == "completed"
        assert ("test_loss" in read.Tags()["scalars"]) == completed
        if completed:
            [test_loss] = read.Scalars("test_loss")
            assert (test_loss.step, test_loss.value) == (row["steps"], np.float32(row["test_loss"]))
            [end] = read.Scalars("log10_l2_layer1_final")
            assert end.value == np.float32(row["log10_l2_layer1_final"])


@pytest.mark.parametrize("name", ["../../../up", "..", "/up"])
def test_no_name_leads_out_of_the_directory(layered: Study, tmp_path: Path, name: str) -> None:
    table = pq.read_table(Path(layered.location) / "runs.parquet")
    runs = table.to_pandas().query("arm == 'grid'").assign(model=name)[:1]
    (tmp_path / "study").mkdir()
    pq.write_table(pa.Table.from_pandas(runs, table.schema, preserve_index=False), tmp_path / "study" / "runs.parquet")
    export_study(load_study(tmp_path / "study"), "tensorboard", tmp_path / "out")
    events = list(tmp_path.rglob("events.out.*"))
    assert sorted(len(path.relative_to(tmp_path / "out").parts) for path in events) == [1, 5]


def test_the_server_shows_scalars_and_the_table_of_hyperparameters(layered: Study, events: Path) -> None:
    with serving(
        "from tensorboard.main import run_main; run_main()", "--logdir", str(events), "--load_fast", "false"
    ) as ask:
        tags: dict[str, Any] = {}
        while len(tags) < len(layered.runs):  # the server reads in the background
            tags = ask("/data/plugin/scalars/tags")
            time.sleep(0.1)
        assert "trajectory/t2_loss" in tags["mlp-64/online/3/0"]
        experiment = ask("/data/plugin/hparams/experiment", {"experimentName": ""})
        columns = {info["name"]: info for info in experiment["hparamInfos"]}
        assert columns.keys() == {"model", "arm", "status", "log10_l2_layer1", "log10_l2_layer2", "input_noise_std"}
        assert columns["input_noise_std"]["domainInterval"] == {"minValue": 0.0, "maxValue": 0.8}
        wanted = {
            "experimentName": "",
            "allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_UNKNOWN", "STATUS_RUNNING"],
            "colParams": [{"hparam": name} for name in columns],
            "startIndex": 0,
            "sliceSize": 1000,
        }
        groups = {found["name"]: found for found in ask("/data/plugin/hparams/session_groups", wanted)["sessionGroups"]}
    assert groups.keys() == set(layered.runs["run_id"])
    for row in layered.runs.to_dict("records"):
        found = groups[row["run_id"]]
        assert found["hparams"]["log10_l2_layer2"] == row["log10_l2_layer2_initial"]
        assert (found["hparams"]["arm"], found["hparams"]["status"]) == (row["arm"], row["status"])
        metrics = {metric["name"]["tag"]: metric["value"] for metric in found["metricValues"]}
        completed = row["status"] == "completed"
        assert found["sessions"][0]["status"] == ("STATUS_SUCCESS" if completed else "STATUS_FAILURE")
        assert metrics.get("t2_loss") == (np.float32(row["t2_loss"]) if completed else None)
