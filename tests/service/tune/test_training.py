"""A training that is advanced point by point, its checkpoints, and what is said of a config that does not fit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import SpecError
from service.tune.training import START, TENSORS, Training, train_config
from tests.service.tune.specs import COSTS, EVERY, STEPS, small_study
from trainers import ConfigError, Member, Point, Problem, Result, TrainConfig, load_problem, train

START_VALUES = {"log10_l2": -4.0, "input_noise_std": 0.3}


@pytest.fixture(scope="module")
def setting() -> tuple[Problem, TrainConfig]:
    _, config = train_config(small_study())
    return load_problem(config), config


def training(
    setting: tuple[Problem, TrainConfig], start: dict[str, Any] = START_VALUES, online: bool = True
) -> Training:
    problem, config = setting
    return Training(problem, config, start, seed=1, online=online, costs=COSTS)


def rest(given: Training) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    while not reports or not reports[-1]["done"]:
        reports.append(given.advance())
    return [{name: value for name, value in report.items() if name != "train_time_s"} for report in reports]


@pytest.mark.parametrize("online", [False, True])
def test_its_reports_are_the_points_and_the_result_of_the_training(
    setting: tuple[Problem, TrainConfig], online: bool
) -> None:
    records = list(train(*setting, [Member(1, START_VALUES)], online=online))
    _, *points = [record for record in records if isinstance(record, Point)]
    result = records[-1]
    assert isinstance(result, Result)
    reports = rest(training(setting, online=online))
    assert [report["step"] for report in reports] == list(range(EVERY, STEPS + 1, EVERY))
    for report, point in zip(reports[:-1], points[:-1], strict=True):
        assert (report["t1_loss"], report["t2_loss"]) == (point.t1_loss, point.t2_loss)
        assert {name: report[name] for name in START_VALUES} == point.hyperparameters
        assert not report["done"]
    last = reports[-1]
    assert {name: last[name] for name in START_VALUES} == result.final
    for name in ("t1_loss", "t2_loss", "t2_error", "test_loss", "test_error", "status"):
        assert last[name] == getattr(result, name)


def test_compute_counts_steps_and_evaluations(setting: tuple[Problem, TrainConfig]) -> None:
    fixed, online = rest(training(setting, online=False)), rest(training(setting))
    assert [report["compute"] for report in fixed] == [(EVERY + 4.0) * k for k in range(1, 11)]
    assert [report["compute"] for report in online] == [(1.5 * EVERY + 4.0) * k for k in range(1, 11)]


def test_the_last_interval_may_be_shorter() -> None:
    _, config = train_config(small_study(record_every=150))
    reports = rest(training((load_problem(config), config)))
    assert [(report["step"], report["done"]) for report in reports] == [(150, False), (200, True)]
    assert reports[-1]["compute"] == 1.5 * 200 + 2 * 4.0


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("advanced", [0, 1, 4, 10])
def test_it_goes_on_from_its_own_checkpoint(
    setting: tuple[Problem, TrainConfig], tmp_path: Path, online: bool, advanced: int
) -> None:
    whole = rest(training(setting, online=online))
    first = training(setting, online=online)
    for _ in range(advanced):
        first.advance()
    first.save(tmp_path)
    second = training(setting, online=online)
    second.load(tmp_path)
    # The end has no checkpoint of its own: its last interval is trained again.
    assert rest(second) == whole[min(advanced, len(whole) - 1) :]


def test_a_checkpoint_has_no_pickle(setting: tuple[Problem, TrainConfig], tmp_path: Path) -> None:
    one = training(setting)
    one.advance()
    one.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {TENSORS, START}
    assert json.loads((tmp_path / START).read_text()) == {"seed": 1, "hyperparameters": START_VALUES}
    size = int.from_bytes((tmp_path / TENSORS).read_bytes()[:8], "little")
    assert json.loads((tmp_path / TENSORS).read_bytes()[8 : 8 + size])["__metadata__"]["step"] == str(EVERY)


@pytest.mark.parametrize("changed", [{"seed": 2}, {"input_noise_std": 0.1}])
def test_from_anothers_checkpoint_it_branches_off(
    setting: tuple[Problem, TrainConfig], tmp_path: Path, changed: dict[str, Any]
) -> None:
    donor = training(setting, online=False)
    for _ in range(5):
        donor.advance()
    donor.save(tmp_path)
    heir = training(setting, START_VALUES | changed, online=False)
    heir.load(tmp_path)
    assert donor.latest is not None
    start = START_VALUES | changed
    member = Member(int(start.pop("seed", 1)), start)
    records = list(train(*setting, [member], online=False, branch_from=donor.latest))
    result = records[-1]
    assert isinstance(result, Result)
    reports = rest(heir)
    assert [report["step"] for report in reports] == [120, 140, 160, 180, 200]
    assert (reports[-1]["t2_loss"], reports[-1]["test_loss"]) == (result.t2_loss, result.test_loss)
    assert reports[-1]["input_noise_std"] == start["input_noise_std"]

    # What it writes from now on is its own, and it goes on from that exactly.
    again = training(setting, START_VALUES | changed, online=False)
    again.load(tmp_path)
    again.advance()
    own = tmp_path / "own"
    own.mkdir()
    again.save(own)
    resumed = training(setting, START_VALUES | changed, online=False)
    resumed.load(own)
    assert rest(resumed) == reports[1:]


def test_a_training_that_diverges_is_worse_than_any_other(tmp_path: Path) -> None:
    study = small_study(inner={"steps": 200, "batch_size": 50, "learning_rate": 1e6})
    _, config = train_config(study)
    one = training((load_problem(config), config), online=False)
    *_, report = rest(one)
    assert (report["status"], report["t2_loss"]) == ("diverged", math.inf)
    assert report["step"] < STEPS
    assert report["compute"] == (EVERY + 4.0) * report["step"] / EVERY
    one.save(tmp_path)
    with pytest.raises(RuntimeError, match="has ended"):
        one.advance()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"log10_l2": -4.0}, r"\['log10_l2'\]: must be \['input_noise_std', 'log10_l2'\] and"),
        (START_VALUES | {"lr": 0.1}, r"'lr'.*: must be"),
        (START_VALUES | {"log10_l2": "high"}, "log10_l2 of a trial = 'high': must be a number"),
        (START_VALUES | {"seed": 0.5}, "seed of a trial = 0.5: must be a whole number"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    setting: tuple[Problem, TrainConfig], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        training(setting, config)


def test_numbers_may_be_numpys(setting: tuple[Problem, TrainConfig]) -> None:
    config = {name: np.float64(value) for name, value in START_VALUES.items()} | {"seed": np.int64(9)}
    member = training(setting, config).member
    assert (type(member.seed), member) == (int, Member(9, START_VALUES))


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"seed": 1}', '{"seed": "1", "hyperparameters": {}}', '{"seed": 1, "hyperparameters": {"a": null}}'],
)
def test_a_checkpoint_that_it_has_not_written_is_refused(
    setting: tuple[Problem, TrainConfig], tmp_path: Path, content: str
) -> None:
    (tmp_path / START).write_text(content)
    with pytest.raises(ConfigError, match="must be of a checkpoint that this trainable has written"):
        training(setting).load(tmp_path)
    (tmp_path / START).unlink()
    with pytest.raises(ConfigError, match="must be of a checkpoint that this trainable has written"):
        training(setting).load(tmp_path)


def test_a_spec_of_several_models_needs_a_label() -> None:
    study = small_study(models=[{"hidden": [8]}, {"hidden": [4]}])
    assert train_config(study, "mlp-4")[1].model.hidden == (4,)
    for label in (None, "mlp-5"):
        with pytest.raises(SpecError, match=f"model = {label!r}: must be one of the spec's, 'mlp-4', 'mlp-8'"):
            train_config(study, label)


def test_a_trainer_of_the_users_own_cannot_be_stepped_through() -> None:
    with pytest.raises(SpecError, match=r"trainer = 'tests\.service\.toy:train': must be 't1t2'"):
        train_config(small_study(trainer="tests.service.toy:train"))
    with pytest.raises(SpecError, match="spec = None: must be given"):
        train_config(None)


def test_a_relative_root_is_below_where_the_driver_was_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study = small_study(data={"name": "mnist", "root": "data", "t1_size": 200, "t2_size": 100, "test_size": 100})
    monkeypatch.setenv("TUNE_ORIG_WORKING_DIR", str(tmp_path))
    assert train_config(study)[1].data.root == str(tmp_path / "data")
