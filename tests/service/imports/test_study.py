from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
import pytest

from analysis import load_study
from service import StorageError, StudyError, read_status, read_study, request, resume_study
from service.client.verification import verify_study
from service.imports.rows import ARM
from service.imports.study import Imported, import_study
from service.ledger.schema import TABLES, schemas
from service.storage.files import Storage
from tests.service.imports.searches import TIME, fill, report, table, write_experiment, write_trial
from tests.service.toy_studies import run_toy

MAPS = ("weight_decay=log10_l2:log10", "net/noise=input_noise_std")


def imported(source: Path, out: Path, **changes: Any) -> Imported:
    options = {"maps": MAPS, "metrics": ("val/loss=t2_loss",), "model": "mlp-32", "dataset": "digits"}
    return import_study(source, out, **(options | changes))


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Three trials that complete, one that diverges, one that is stopped and one that fails."""
    folder = write_experiment(tmp_path / "my search")
    nan = [report("nan", i, {"weight_decay": 0.1, "net": {"noise": 0.9}}, val={"loss": math.nan}) for i in (1, 2)]
    write_trial(folder / "nan", nan)
    write_trial(folder / "short", [report("short", 1, {"weight_decay": 0.0, "net": {"noise": 0.5}}, val={"loss": 9.0})])
    failed = write_trial(folder / "boom", [], {"weight_decay": 0.01, "net": {"noise": 0.7}})
    (failed / "error.txt").write_text("ValueError: boom")
    return folder


def test_every_cell_of_the_tables(experiment: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = imported(experiment, out)
    assert made.statuses == {"completed": 3, "diverged": 1, "failed": 1, "stopped": 1}
    assert (made.name, made.left_out, made.not_taken) == ("my-search", {}, ["batch_size"])
    assert made.without_value == {"weight_decay": 1}  # the logarithm of 0
    for name, schema in schemas(["log10_l2", "input_noise_std"]).items():
        assert list(table(out, name).columns) == schema.names
    for name in TABLES:
        described = {
            field.name: field.metadata[b"description"].decode() for field in pq.read_schema(out / f"{name}.parquet")
        }
        assert all(described.values())
        assert "rerun" not in described.get("arm", "")
    runs = table(out)
    assert runs["config_index"].tolist() == list(range(6))
    assert set(runs["arm"]) == {ARM}
    assert (set(runs["model"]), set(runs["dataset"]), set(runs["attempt"])) == ({"mlp-32"}, {"digits"}, {1})
    trials = read_study(str(out))["provenance"]["imported"]["trials"]
    assert trials == ["nan", "short", "t0", "t1", "t2", "boom"]  # all began at once, but when the last did is not known
    assert runs["status"].tolist() == ["diverged", "stopped", *["completed"] * 3, "failed"]
    rows = dict(zip(trials, runs.to_dict("records"), strict=True))
    for k in range(3):
        row = rows[f"t{k}"]
        assert (row["log10_l2_initial"], row["log10_l2_final"]) == (pytest.approx(-k - 2), row["log10_l2_initial"])
        assert (row["input_noise_std_final"], row["t2_loss"], row["steps"]) == (k / 10, k + 0.5, 2)
        assert row["train_time_s"] == 2.0
    assert (rows["boom"]["error"], rows["boom"]["input_noise_std_final"]) == ("ValueError: boom", 0.7)
    assert rows["short"]["t2_loss"] == 9.0
    assert math.isnan(rows["short"]["log10_l2_final"])
    assert math.isnan(rows["nan"]["t2_loss"])
    assert runs[["t1_loss", "t2_error", "test_loss", "test_error", "seed"]].isna().all(axis=None)
    assert runs["run_id"].is_unique
    points, attempts = table(out, "trajectories"), table(out, "attempts")
    path = points[points["run_id"] == rows["t2"]["run_id"]]
    assert path[["step", "input_noise_std", "t2_loss"]].values.tolist() == [[1, 0.2, 3.0], [2, 0.2, 2.5]]
    [attempt] = attempts[attempts["run_id"] == rows["t2"]["run_id"]].to_dict("records")
    assert (attempt["outcome"], attempt["node_ip"], attempt["pid"]) == ("completed", "192.0.2.2", 77)
    assert (attempt["started_at"].timestamp(), attempt["finished_at"].timestamp()) == (TIME, TIME + 2)


def test_an_imported_study_is_read_as_any_other(experiment: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    imported(experiment, out)
    study = load_study(out)
    assert (study.name, study.models, len(study.runs), len(study.trajectories)) == ("my-search", ["mlp-32"], 6, 9)
    assert study.boxes == {"log10_l2": (-4.0, -1.0), "input_noise_std": (0.0, 0.9)}  # the extent of the trials
    status = read_status(str(out))
    assert (status.state, status.done, status.failed, status.error) == ("completed", {ARM: 6}, 1, None)
    assert {found.path: found.verdict for found in verify_study(str(out))} == dict.fromkeys(
        ["study.json", "progress.json", *(f"{name}.parquet" for name in TABLES)], "sound"
    )


def test_the_same_import_gives_the_same_bytes(experiment: Path, tmp_path: Path) -> None:
    for out in ("first", "second"):
        imported(experiment, tmp_path / out)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == ["attempts.parquet", "progress.json", "runs.parquet", "study.json", "trajectories.parquet"]
    for name in files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_trials_of_optuna(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'search.db'}"
    study = fill(optuna.create_study(study_name="tpe", storage=url))
    made = import_study(
        url,
        tmp_path / "out",
        maps=["decay=log10_l2:log10_double"],
        metrics=["value=t2_loss", "test/loss=test_loss"],
        settings=["input_noise_std=0"],
        model="mlp",
    )
    assert made.statuses == {"completed": 1, "diverged": 1, "failed": 1, "stopped": 1}
    assert made.left_out == {"still running": 1}
    assert made.not_taken == ["activation", "noise"]
    runs = table(tmp_path / "out")
    assert runs["log10_l2_final"].tolist() == [math.log10(2 * trial.params["decay"]) for trial in study.trials[:4]]
    assert runs["input_noise_std_initial"].tolist() == [0.0] * 4
    assert runs["status"].tolist() == ["completed", "stopped", "failed", "diverged"]
    assert runs["t2_loss"].tolist()[:2] == [study.trials[0].value, study.trials[1].intermediate_values[10]]
    assert runs["test_loss"].tolist()[:2] == [trial.user_attrs["test"]["loss"] for trial in study.trials[:2]]
    points = table(tmp_path / "out", "trajectories")
    assert points["step"].tolist() == [10, 20, 10, 10, 20, 10, 20]
    assert points["t2_loss"][0] == study.trials[0].intermediate_values[10]


def test_a_study_gives_the_names_boxes_model_and_data(tmp_path: Path) -> None:
    run_toy(tmp_path / "toy", models=[{"hidden": [8]}])
    folder = tmp_path / "search"
    write_trial(folder / "a", [report("a", 1, {"log10_l2": -3.0, "sigma": 0.25}, t2_loss=0.5, accuracy=0.75)])
    like = str(tmp_path / "toy")
    with pytest.raises(StudyError, match=r"input_noise_std: the --like study has it; say by --map .*log10_l2, sigma"):
        import_study(folder, tmp_path / "out", like=like)
    import_study(
        folder,
        tmp_path / "out",
        like=like,
        maps=["sigma=input_noise_std:sqrt"],
        metrics=["accuracy=t2_error:complement"],
    )
    ours, theirs = load_study(like), load_study(tmp_path / "out")
    assert theirs.boxes == ours.boxes
    assert theirs.models == ours.models
    assert theirs.spec["data"]["name"] == ours.spec["data"]["name"]
    row = theirs.runs.iloc[0]
    assert (row["log10_l2_final"], row["input_noise_std_final"]) == (-3.0, 0.5)
    assert (row["t2_loss"], row["t2_error"]) == (0.5, 0.25)
    with pytest.raises(
        StudyError, match=r"hidden_noise_std: must be a hyperparameter of the --like study: log10_l2, i"
    ):
        import_study(folder, tmp_path / "more", like=like, maps=["sigma=hidden_noise_std"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": None}, "--model: give a label"),
        ({"model": ""}, "--model: give a label"),
        ({"maps": ()}, "--map: name a parameter .*the parameters batch_size, net/noise, weight_decay"),
        (
            {"maps": ["noise=input_noise_std"]},
            "no trial has this parameter; there are the parameters batch_size, net/n",
        ),
        ({"maps": ["weight_decay"]}, "--map weight_decay: must be NAME=COLUMN"),
        ({"maps": ["weight_decay=log10_l2:exp"]}, "a transform among log10, log10_double, sqrt, complement"),
        ({"maps": ["weight_decay=a", "batch_size=a"]}, "--map and --set: a must be given once, not 2 times"),
        ({"maps": ["weight_decay=t2_loss"]}, "t2_loss: must be a name .* and no other column of the tables"),
        ({"maps": ["weight_decay=L2"]}, "L2: must be a name of lower-case letters"),
        ({"settings": ["noise=many"]}, "--set noise=many: must be COLUMN=VALUE with a finite number"),
        ({"settings": ["noise=inf"]}, "--set noise=inf: must be"),
        ({"metrics": ()}, "--metric: name a metric .*the metrics accuracy, samples, val/loss"),
        ({"metrics": ["loss=t2_loss"]}, "--metric loss=t2_loss: no trial has this metric"),
        ({"metrics": ["val/loss=loss"]}, "--metric val/loss=loss: must give one of t1_loss, t2_loss"),
        ({"study_name": "x"}, "--study-name x: is for storages of Optuna"),
        ({"step": "epoch"}, "--step epoch: no trial reports it"),
        ({"name": "../x"}, "name = '../x': must be"),
        ({"like": "nowhere"}, "nowhere: holds no study"),
    ],
)
def test_what_does_not_fit_makes_nothing(experiment: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        imported(experiment, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_a_metric_of_which_more_is_better_is_no_loss(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'search.db'}"
    study = optuna.create_study(storage=url, direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    options: dict[str, Any] = {"maps": ["x=x"], "model": "m"}
    with pytest.raises(StudyError, match=r"the search maximises it.*value=t2_error:complement"):
        import_study(url, tmp_path / "out", metrics=["value=t2_loss"], **options)
    import_study(url, tmp_path / "out", metrics=["value=t2_error:complement"], **options)
    assert table(tmp_path / "out")["t2_error"].tolist() == [1 - study.best_value]
    with pytest.raises(StudyError, match="--step epoch: is for experiments of Ray Tune"):
        import_study(url, tmp_path / "more", metrics=["value=t2_error:complement"], step="epoch", **options)


def test_a_search_without_an_ended_trial_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'search.db'}"
    optuna.create_study(storage=url).ask()
    with pytest.raises(StudyError, match=r"holds no trial that has ended \(1 still running\)"):
        import_study(url, tmp_path / "out", maps=["x=x"], model="m")


def test_a_directory_that_is_not_empty_is_left_alone(experiment: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes").write_text("mine")
    with pytest.raises(StudyError, match="out: is not empty; give a new directory"):
        imported(experiment, out)
    assert [path.name for path in out.iterdir()] == ["notes"]


def test_a_disk_that_fails_in_the_middle_leaves_nothing(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Storage.write

    def fails(self: Storage, name: str, *content: Any, **options: Any) -> None:
        if name == "study.json":
            raise StorageError("the disk is full")
        written(self, name, *content, **options)

    monkeypatch.setattr(Storage, "write", fails)
    with pytest.raises(StorageError, match="full"):
        imported(experiment, tmp_path / "parent" / "out")
    assert not (tmp_path / "parent").exists()


def test_nothing_is_trained_in_an_imported_study(experiment: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    imported(experiment, tmp_path / "out")
    words = "out: was imported from another program"
    with pytest.raises(StudyError, match=words):
        resume_study(out)
    with pytest.raises(StudyError, match=words):
        run_toy(out)
    with pytest.raises(StudyError, match=words):
        request(out, "retry")
    assert not (tmp_path / "out" / "control").exists()
