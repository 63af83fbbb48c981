"""A search that Ray Tune really makes, with its default loggers, read back value for value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from service.imports.study import import_study
from tests.service.imports.searches import table

pytestmark = [
    pytest.mark.slow,  # a cluster of its own
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of Ray, blamed on whoever calls it
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def train(config: dict[str, Any]) -> None:
    """Three reports, but for what raises; the loss of noise above 0.9 is NaN."""
    from ray import tune

    if config["decay"] > 0.5:
        raise ValueError("boom")
    for epoch in (1, 2, 3):
        loss = math.nan if config["noise"] > 0.9 else config["noise"] + 1 / epoch
        tune.report({"val": {"loss": loss}, "epochs": 10 * epoch})


def test_a_search_with_a_scheduler_is_imported_value_for_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "0")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        space = {"decay": tune.grid_search([1e-4, 0.9]), "noise": tune.grid_search([0.1, 0.5, 0.95])}
        scheduler = ASHAScheduler(metric="val/loss", mode="min", max_t=3, grace_period=1, reduction_factor=2)
        settings = tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=1)
        run = tune.RunConfig(name="search", storage_path=str(tmp_path), verbose=0)
        results = tune.Tuner(train, param_space=space, tune_config=settings, run_config=run).fit()
    finally:
        ray.shutdown()
    made = import_study(
        tmp_path / "search",
        tmp_path / "out",
        maps=["decay=log10_l2:log10", "noise=input_noise_std"],
        metrics=["val/loss=t2_loss"],
        model="mlp",
        step="epochs",
    )
    assert not made.left_out
    runs, points = table(tmp_path / "out"), table(tmp_path / "out", "trajectories")
    assert len(runs) == len(results) == 6
    rows = {(row["log10_l2_final"], row["input_noise_std_final"]): row for row in runs.to_dict("records")}
    for trial in map(results.__getitem__, range(6)):
        config, frame, latest = trial.config or {}, trial.metrics_dataframe, trial.metrics or {}
        row = rows[math.log10(config["decay"]), config["noise"]]
        assert row["log10_l2_initial"] == row["log10_l2_final"]
        if trial.error:
            assert (row["status"], row["error"]) == ("failed", "ValueError: boom")
            continue
        assert frame is not None
        path = points[points["run_id"] == row["run_id"]]
        assert path["step"].tolist() == frame["epochs"].tolist()
        assert row["steps"] == frame["epochs"].iloc[-1]
        assert row["train_time_s"] == latest["time_total_s"]
        if config["noise"] > 0.9:
            assert row["status"] == "diverged"
            assert math.isnan(row["t2_loss"])
        else:
            assert row["status"] == ("completed" if len(frame) == 3 else "stopped")
            assert path["t2_loss"].tolist() == frame["val/loss"].tolist()
            assert row["t2_loss"] == latest["val"]["loss"]
    assert set(runs["status"]) == {"completed", "stopped", "diverged", "failed"}
