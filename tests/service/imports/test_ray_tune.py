from __future__ import annotations

import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from service import StudyError
from service.imports.ray_tune import read_experiment
from tests.service.imports.searches import TIME, report, write_experiment, write_trial


def test_every_value_of_an_experiment_is_read(tmp_path: Path) -> None:
    source = read_experiment(str(write_experiment(tmp_path / "search")))
    assert (source.kind, source.name, source.location) == ("Ray Tune", "search", str(tmp_path / "search"))
    assert source.parameters == ["batch_size", "net/noise", "weight_decay"]
    assert source.metrics == ["accuracy", "samples", "val/loss"]  # and nothing that Tune adds
    assert [trial.id for trial in source.trials] == ["t0", "t1", "t2"]
    last = source.trials[2]
    assert last.end == "completed"
    assert last.initial == last.final == {"weight_decay": 1e-4, "net/noise": 0.2, "batch_size": 32}
    assert last.metrics == {"val/loss": 2.5, "accuracy": 0.5, "samples": 200}
    assert [(each.step, each.metrics["val/loss"]) for each in last.reports] == [(1, 3.0), (2, 2.5)]
    assert (last.started_at, last.finished_at, last.seconds) == (TIME, TIME + 2, 2.0)
    assert (last.node_ip, last.pid, last.error) == ("192.0.2.2", 77, None)
    assert not source.left_out


def test_another_metric_may_count_the_steps(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "search")
    assert [each.step for each in read_experiment(str(folder), "samples").trials[0].reports] == [100, 200]
    with pytest.raises(StudyError, match=r"--step epoch: no trial reports it.*samples"):
        read_experiment(str(folder), "epoch")


def test_a_trial_that_reported_less_often_than_the_longest_was_stopped(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "search")
    write_trial(folder / "early", [report("early", 1, {"weight_decay": 0.1}, accuracy=0.1)])
    ends = {trial.id: trial.end for trial in read_experiment(str(folder)).trials}
    assert ends == {"t0": "completed", "t1": "completed", "t2": "completed", "early": "stopped"}


def test_parameters_that_a_scheduler_changes_are_read_report_by_report(tmp_path: Path) -> None:
    reports = [report("pbt", i, {"noise": noise}, loss=0.5) for i, noise in ((1, 0.1), (2, 0.1), (3, 0.3), (2, 0.2))]
    write_trial(tmp_path / "search" / "pbt", reports)
    [trial] = read_experiment(str(tmp_path / "search")).trials
    assert (trial.initial, trial.final) == ({"noise": 0.1}, {"noise": 0.2})
    # Of two reports at one step, the one after the restoration counts.
    assert [(each.step, each.parameters["noise"]) for each in trial.reports] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_a_parameter_that_a_training_tunes_itself_is_what_it_reports(tmp_path: Path) -> None:
    reports = [report("online", i, {"noise": 0.8, "seed": 3}, noise=0.8 - i / 10, loss=0.5) for i in (1, 2)]
    write_trial(tmp_path / "search" / "online", reports)
    [trial] = read_experiment(str(tmp_path / "search")).trials
    assert (trial.initial, trial.final) == ({"noise": 0.8, "seed": 3}, {"noise": pytest.approx(0.6), "seed": 3})
    assert [each.parameters["noise"] for each in trial.reports] == pytest.approx([0.7, 0.6])


def test_the_state_of_the_experiment_tells_what_became_of_a_trial(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "search", trials=4)
    words = {"train_t0": "TERMINATED", "train_t1": "ERROR", "train_t2": "RUNNING", "train_t3": "PAUSED"}
    trials: list[Any] = [
        [
            json.dumps({"trial_id": name[-2:], "status": word, "relative_logdir": name}),
            json.dumps({"start_time": TIME + 9}),
        ]
        for name, word in words.items()
    ]
    trials += [["{", "{}"], ["{}", 3], 7, []]  # damaged entries
    (folder / "experiment_state-2026-01-01_00-00-00.json").write_text("no JSON: an older one")
    (folder / "experiment_state-2026-01-02_00-00-00.json").write_text(json.dumps({"trial_data": trials}))
    (folder / "train_t1" / "error.txt").write_text("Traceback\n  \x1b[36mray\x1b[39m\nValueError: boom\n\n")
    source = read_experiment(str(folder))
    assert [(each.id, each.end, each.started_at) for each in source.trials] == [
        ("t0", "completed", TIME + 9),
        ("t1", "failed", TIME + 9),
    ]
    assert source.trials[1].error == "ValueError: boom"
    assert source.left_out == {"still running": 1, "paused": 1}


def test_without_a_state_the_records_tell_it(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "search", trials=1)
    failed = write_trial(folder / "failed", [], {"weight_decay": 0.1})
    (failed / "error.txt").write_text("OSError: disk")
    unended = write_trial(folder / "unended", [report("unended", 1, {}, accuracy=0.1)])
    (unended / "result.json").write_text(json.dumps(report("unended", 1, {}, accuracy=0.1)))
    source = read_experiment(str(folder))
    assert {trial.id: (trial.end, trial.error) for trial in source.trials} == {
        "t0": ("completed", None),
        "failed": ("failed", "OSError: disk"),
    }
    assert source.left_out == {"still running": 1}


def test_what_is_damaged_is_left_out_and_counted(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "search", trials=3)
    whole = (folder / "train_t0" / "result.json").read_bytes()
    (folder / "train_t0" / "result.json").write_bytes(whole + b'{"val": {"lo')  # the process was killed as it wrote
    (folder / "train_t1" / "params.json").write_bytes(b"\xff\xfe")
    (folder / "empty").mkdir()
    bare = write_trial(folder / "bare", [])
    (bare / "params.json").write_text("[" * 100_000)
    (bare / "error.txt").write_text("")
    (bare / "result.json").write_text("null\n")
    source = read_experiment(str(folder))
    assert [trial.id for trial in source.trials] == ["t0", "t1", "t2"]
    assert source.trials[0].metrics["val/loss"] == 0.5
    assert source.trials[1].final["net/noise"] == 0.1  # from its reports
    assert source.left_out == {
        "damaged lines of result.json": 2,
        "without any record": 1,
        "without parameters that can be read": 1,
    }


def test_csv_takes_the_place_of_json_that_is_not_there(tmp_path: Path) -> None:
    folder = write_trial(tmp_path / "search" / "one", [], {"noise": 0.1})
    (folder / "result.json").unlink()
    lines = ["loss,done,training_iteration,trial_id,net/kind", "nan,False,1,one,mlp", "0.5,True,2,one,mlp", "0.4,Tr"]
    (folder / "progress.csv").write_text("\n".join(lines))
    source = read_experiment(str(tmp_path / "search"))
    [trial] = source.trials
    assert (trial.id, trial.end, trial.final) == ("one", "completed", {"noise": 0.1})
    assert math.isnan(trial.reports[0].metrics["loss"])
    assert trial.metrics == {"loss": 0.5, "net/kind": "mlp"}
    assert source.metrics == ["loss"]
    assert source.left_out == {"damaged lines of progress.csv": 1}


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return os.mkdir, (self.path,)


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    trap = str(tmp_path / "trap")
    hostile = pickle.dumps(Hostile(trap))
    folder = write_experiment(tmp_path / "search", trials=1)
    hidden = {"_type": "CLOUDPICKLE_FALLBACK", "value": hostile.hex()}
    trial = {"trial_id": "t0", "status": "TERMINATED", "relative_logdir": "train_t0", "storage": hidden}
    state = {"trial_data": [[json.dumps(trial), json.dumps({"start_time": hidden})]], "runner_data": hidden}
    (folder / "experiment_state-2026-01-01_00-00-00.json").write_text(json.dumps(state))
    for place in (folder, folder / "train_t0"):
        for name in ("tuner.pkl", "trainable.pkl", "params.pkl", "error.pkl"):
            (place / name).write_bytes(hostile)
    (folder / "train_t0" / "checkpoint_000000").mkdir()
    (folder / "train_t0" / "checkpoint_000000" / "dict_checkpoint.pkl").write_bytes(hostile)
    [found] = read_experiment(str(folder)).trials
    assert found.started_at == TIME
    assert not os.path.exists(trap)
    pickle.loads(hostile)  # the trap works
    assert os.path.exists(trap)


def test_places_without_an_experiment(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StudyError, match="holds no Ray Tune experiment"):
            read_experiment(str(place))
