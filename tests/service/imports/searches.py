"""Searches to be imported: the files of a Tune experiment as its default loggers write them, and storages of Optuna."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pyarrow.parquet as pq

TIME = 1_790_000_000.0  # seconds since 1970, when the first trial begins


def report(trial: str, iteration: int, config: dict[str, Any], **metrics: Any) -> dict[str, Any]:
    """What Tune writes as one line of ``result.json``."""
    return {
        **metrics,
        "timestamp": int(TIME) + iteration,
        "done": False,
        "training_iteration": iteration,
        "trial_id": trial,
        "time_total_s": float(iteration),
        "pid": 77,
        "hostname": "node",
        "node_ip": "192.0.2.2",
        "config": config,
    }


def write_trial(folder: Path, reports: Sequence[dict[str, Any]], config: dict[str, Any] | None = None) -> Path:
    """The directory of a trial; its last report says that it is done."""
    folder.mkdir(parents=True)
    lines = [*reports[:-1], *({**last, "done": True} for last in reports[-1:])]
    (folder / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = config if config is not None else dict(reports[-1]["config"]) if reports else {}
    (folder / "params.json").write_text(json.dumps(given))
    return folder


def write_experiment(folder: Path, trials: int = 3, iterations: int = 2) -> Path:
    """An experiment whose k-th trial has the weight decay 10^-(k + 2) and the noise k / 10."""
    for k in range(trials):
        config = {"weight_decay": 10.0 ** -(k + 2), "net": {"noise": k / 10}, "batch_size": 32}
        reports = [
            report(f"t{k}", i, config, val={"loss": 1 / i + k}, accuracy=0.5, samples=100 * i)
            for i in range(1, iterations + 1)
        ]
        write_trial(folder / f"train_t{k}", reports)
    return folder


def fill(study: optuna.Study) -> optuna.Study:
    """Trials that complete (0), are pruned (1), raise (2), return NaN (3), and still run (4)."""

    def objective(trial: optuna.Trial) -> float:
        decay = trial.suggest_float("decay", 1e-5, 1e-2, log=True)
        noise = trial.suggest_float("noise", 0.0, 0.8)
        trial.suggest_categorical("activation", ["relu"])
        trial.set_user_attr("test", {"loss": noise + 1})
        for step in (10, 20):
            trial.report(float("nan") if trial.number == 3 else noise + decay + 1 / step, step)
            if trial.number == 1:
                raise optuna.TrialPruned
        if trial.number == 2:
            raise RuntimeError("out of memory")
        return float("nan") if trial.number == 3 else noise + decay

    study.optimize(objective, n_trials=4, catch=RuntimeError)
    study.ask()
    return study


def table(out: Path, name: str = "runs") -> pd.DataFrame:
    frame: pd.DataFrame = pq.read_table(out / f"{name}.parquet").to_pandas()
    return frame
