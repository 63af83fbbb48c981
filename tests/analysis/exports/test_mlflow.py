from __future__ import annotations

from pathlib import Path

import pytest

from analysis.exports.export import export_study
from analysis.files import StudyError
from analysis.study import Study

mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")


@pytest.fixture(scope="module")
def store(layered: Study, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("exports") / "mlflow"
    exported = export_study(layered, "mlflow", out)
    assert [path.name for path in out.iterdir()] == ["mlflow.db"]
    assert exported.opened_by == f"mlflow ui --backend-store-uri sqlite:///{out}/mlflow.db"
    return f"sqlite:///{out}/mlflow.db"


def test_a_search_finds_every_run(layered: Study, store: str) -> None:
    mlflow.set_tracking_uri(store)
    found = mlflow.search_runs(experiment_names=["layered"]).set_index("tags.run_id")
    assert set(found.index) == set(layered.runs["run_id"])
    for _, row in layered.runs.iterrows():
        seen = found.loc[row["run_id"]]
        assert (seen["tags.model"], seen["tags.arm"], seen["tags.status"]) == (row["model"], row["arm"], row["status"])
        assert float(seen["params.log10_l2_layer2"]) == row["log10_l2_layer2_initial"]
        assert (seen["end_time"] - seen["start_time"]).total_seconds() == 10
        if row["status"] == "completed":
            assert seen["status"] == "FINISHED"
            assert seen["metrics.test_loss"] == row["test_loss"]
            assert seen["metrics.input_noise_std_final"] == row["input_noise_std_final"]
        else:
            assert seen["status"] == "FAILED"
            assert seen["metrics.test_loss"] != seen["metrics.test_loss"]


def test_the_peers_filter_works(layered: Study, store: str) -> None:
    mlflow.set_tracking_uri(store)
    asked = "metrics.t2_loss < 0.25 and tags.arm = 'online' and tags.model = 'mlp-64'"
    found = mlflow.search_runs(experiment_names=["layered"], filter_string=asked, order_by=["metrics.t2_loss"])
    expected = layered.runs.query("t2_loss < 0.25 and arm == 'online' and model == 'mlp-64'").sort_values("t2_loss")
    assert 0 < len(expected) < len(layered.runs)
    assert list(found["tags.run_id"]) == list(expected["run_id"])


def test_a_history_is_the_trajectory(layered: Study, store: str) -> None:
    client = mlflow.MlflowClient(tracking_uri=store)
    [experiment] = [found for found in client.search_experiments() if found.name == "layered"]
    assert experiment.tags["study_hash"] == "0" * 16
    [run] = client.search_runs([experiment.experiment_id], "tags.arm = 'online' and metrics.t2_loss > 0", max_results=1)
    points = layered.trajectories[layered.trajectories["run_id"] == run.data.tags["run_id"]]
    for column in ("t2_loss", "input_noise_std", "hypergradient_log10_l2_layer1"):
        history = client.get_metric_history(run.info.run_id, f"trajectory/{column}")
        assert [(metric.step, metric.value) for metric in history] == list(
            zip(points["step"], points[column], strict=True)
        )


@pytest.mark.parametrize("name", ["what?", "20%25"])
def test_a_path_that_is_another_one_in_a_uri_is_refused(layered: Study, tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match=r"/new/.*: must have no [?%] in its path for MLflow"):
        export_study(layered, "mlflow", tmp_path / "new" / name)
    assert list(tmp_path.iterdir()) == []


def test_a_trajectory_may_have_more_metrics_than_mlflow_takes_in_one_call(tmp_path: Path) -> None:
    from analysis.study import load_study
    from tests.analysis.synthetic import write_study

    study = load_study(
        write_study(tmp_path / "long", configurations=1, arms=("online",), models=("mlp-64",), points=600)
    )
    export_study(study, "mlflow", tmp_path / "out")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/out/mlflow.db")
    [run] = client.search_runs([found.experiment_id for found in client.search_experiments()])
    assert len(client.get_metric_history(run.info.run_id, "trajectory/t2_loss")) == 600
    assert run.data.metrics["test_loss"] == study.runs["test_loss"][0]
