from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.exports.export import export_study
from analysis.study import Study, load_study
from tests.analysis.exports.server import serving

optuna = pytest.importorskip("optuna", reason="optuna is not installed")


@pytest.fixture(scope="module")
def journal(layered: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "optuna"
    exported = export_study(layered, "optuna", out)
    assert exported.opened_by == f"optuna-dashboard {out}/optuna.log"
    assert [path.name for path in out.iterdir()] == ["optuna.log"]
    return out / "optuna.log"


def load(journal: Path, name: str) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(journal))))


@pytest.mark.parametrize("arm", ["initial", "online", "rerun", "grid"])
def test_trials_are_the_runs_of_one_model_and_arm(layered: Study, journal: Path, arm: str) -> None:
    study = load(journal, f"layered/mlp-64/{arm}")
    runs = layered.runs.query("model == 'mlp-64' and arm == @arm")
    assert [trial.user_attrs["run_id"] for trial in study.trials] == list(runs["run_id"])
    for trial, (_, row) in zip(study.trials, runs.iterrows(), strict=True):
        assert trial.params == {
            name: row[f"{name}_initial"] for name in ("log10_l2_layer1", "log10_l2_layer2", "input_noise_std")
        }
        assert trial.state.name == ("COMPLETE" if row["status"] == "completed" else "FAIL")
        if row["status"] == "completed":
            assert trial.value == row["t2_loss"]
            assert trial.user_attrs["test_loss"] == row["test_loss"]
            assert trial.user_attrs["log10_l2_layer2_final"] == row["log10_l2_layer2_final"]
            points = layered.trajectories[layered.trajectories["run_id"] == row["run_id"]]
            assert trial.intermediate_values == dict(zip(points["step"], points["t2_loss"], strict=True))
        assert trial.duration.total_seconds() == 10
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "FAIL"}


def test_a_run_that_a_scheduler_stopped_is_a_pruned_trial(layered: Study, tmp_path: Path) -> None:
    table = pq.read_table(Path(layered.location) / "runs.parquet")
    runs = table.to_pandas()
    [place, *_] = runs.index[runs["status"] == "completed"]
    runs.loc[place, ["status", "test_loss"]] = ["stopped", float("nan")]
    (tmp_path / "study").mkdir()
    pq.write_table(pa.Table.from_pandas(runs, table.schema, preserve_index=False), tmp_path / "study" / "runs.parquet")
    export_study(load_study(tmp_path / "study"), "optuna", tmp_path / "out")
    row = runs.loc[place]
    trials = load(tmp_path / "out" / "optuna.log", f"study/{row['model']}/{row['arm']}").trials
    [trial] = [trial for trial in trials if trial.state is optuna.trial.TrialState.PRUNED]
    assert (trial.user_attrs["run_id"], trial.value) == (row["run_id"], row["t2_loss"])
    assert "test_loss" not in trial.user_attrs


def test_the_best_trial_is_the_best_run(layered: Study, journal: Path) -> None:
    runs = layered.runs.query("model == 'mlp-128' and arm == 'online' and status == 'completed'")
    best = load(journal, "layered/mlp-128/online").best_trial
    assert best.user_attrs["run_id"] == runs.sort_values("t2_loss")["run_id"].iloc[0]


def test_importances_see_the_sensitive_hyperparameter(journal: Path) -> None:
    """The synthetic loss is five times as curved in the noise as in the penalty."""
    importances = optuna.importance.get_param_importances(load(journal, "layered/mlp-64/initial"))
    assert next(iter(importances)) == "input_noise_std"
    assert sum(importances.values()) == pytest.approx(1)


def test_optuna_goes_on_with_the_study(journal: Path, tmp_path: Path) -> None:
    """Its sampler learns from the runs: the distributions are the study's boxes."""
    copy = tmp_path / "optuna.log"
    copy.write_bytes(journal.read_bytes())
    study = load(copy, "layered/mlp-64/initial")
    assert study.best_trial.distributions["input_noise_std"] == optuna.distributions.FloatDistribution(0.0, 0.8)
    study.sampler = optuna.samplers.TPESampler(seed=1)
    asked = study.ask(study.best_trial.distributions)
    assert 0.0 <= asked.params["input_noise_std"] <= 0.8


def test_the_dashboard_serves_the_studies(layered: Study, journal: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    with serving("from optuna_dashboard._cli import main; main()", str(journal)) as ask:
        studies = ask("/api/studies")["study_summaries"]
        assert {study["study_name"] for study in studies} == {
            f"layered/{model}/{arm}" for model in layered.models for arm in ("initial", "online", "rerun", "grid")
        }
        [online] = [study for study in studies if study["study_name"] == "layered/mlp-64/online"]
        shown = ask(f"/api/studies/{online['study_id']}?after=0")
        assert shown["objective_names"] == ["t2_loss"]
        runs = layered.runs.query("model == 'mlp-64' and arm == 'online'")
        assert [trial.get("values") for trial in shown["trials"]] == [
            None if loss != loss else [loss] for loss in runs["t2_loss"]
        ]
