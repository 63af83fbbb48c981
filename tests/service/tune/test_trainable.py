"""The trainable under Ray Tune's own schedulers, on a real Ray: the numbers are the service's."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining
from ray.tune.search.basic_variant import BasicVariantGenerator

from analysis import load_study
from service import StudySpec, run_study
from service.tune import OnlineTrainable, online_function, param_space, starts
from tests.service.tune.specs import CONFIGURATIONS, COSTS, EVERY, STEPS, small_study

NAMES = ("log10_l2", "input_noise_std")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
        patch.setenv("RAY_AIR_NEW_OUTPUT", "0")
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def study() -> StudySpec:
    return small_study()


def fit(
    trainable: Any, out: Path, space: dict[str, Any], checkpoint_every: int = 0, **settings: Any
) -> list[dict[str, Any]]:
    """The last report of each trial, in the order of their starts."""
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(metric="t2_loss", mode="min", **settings),
        run_config=tune.RunConfig(
            storage_path=str(out),
            name="experiment",
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=checkpoint_every),
        ),
    )
    found = tuner.fit()
    assert not found.errors
    return [dict(found[place].metrics or {}) | {"config": found[place].config} for place in range(len(found))]


@pytest.mark.parametrize("form", ["class", pytest.param("function", marks=pytest.mark.slow)])
def test_under_fifo_it_gives_the_numbers_of_the_service_to_the_last_bit(
    study: StudySpec, tmp_path: Path, form: str
) -> None:
    run_study(study, tmp_path / "study")
    runs = load_study(str(tmp_path / "study")).runs
    trainable = OnlineTrainable if form == "class" else online_function
    for arm, online in (("initial", False), ("online", True)):
        found = fit(
            tune.with_parameters(trainable, spec=study, online=online, costs=COSTS),
            tmp_path / arm,
            param_space(study, seeds=True),
            num_samples=CONFIGURATIONS,
            search_alg=BasicVariantGenerator(points_to_evaluate=starts(study)),
            reuse_actors=form == "class",
        )
        wanted = runs[runs["arm"] == arm].to_dict("records")
        assert len(found) == len(wanted) == CONFIGURATIONS
        for report, row in zip(found, wanted, strict=True):
            assert report["config"] == {"seed": row["seed"]} | {name: row[f"{name}_initial"] for name in NAMES}
            for name in ("t1_loss", "t2_loss", "t2_error", "test_loss", "test_error", "status"):
                assert report[name] == row[name], name
            assert {name: report[name] for name in NAMES} == {name: row[f"{name}_final"] for name in NAMES}
            assert (report["step"], report["training_iteration"]) == (STEPS, STEPS // EVERY)


def test_asha_stops_what_is_behind(study: StudySpec, tmp_path: Path) -> None:
    scheduler = ASHAScheduler(time_attr="step", max_t=STEPS, grace_period=EVERY, reduction_factor=3)
    found = fit(
        tune.with_parameters(OnlineTrainable, spec=study, online=False, costs=COSTS),
        tmp_path,
        param_space(study),
        num_samples=8,
        max_concurrent_trials=1,
        scheduler=scheduler,
        search_alg=BasicVariantGenerator(random_state=1),
        reuse_actors=True,
    )
    steps = [report["step"] for report in found]
    assert max(steps) == STEPS
    assert min(steps) == EVERY
    assert all(("test_loss" in report) == (report["step"] == STEPS) for report in found)


@pytest.mark.slow
def test_pbt_gives_a_donors_weights_to_other_hyperparameters(study: StudySpec, tmp_path: Path) -> None:
    scheduler = PopulationBasedTraining(
        time_attr="step", perturbation_interval=2 * EVERY, hyperparam_mutations=dict(param_space(study)), synch=True
    )
    found = fit(
        tune.with_parameters(OnlineTrainable, spec=study, online=False, costs=COSTS),
        tmp_path,
        param_space(study, seeds=True),
        num_samples=4,
        scheduler=scheduler,
        reuse_actors=True,
    )
    assert [report["step"] for report in found] == [STEPS] * 4
    assert all(report[name] == report["config"][name] for report in found for name in NAMES)
    assert scheduler._num_perturbations > 0
    assert len({report["config"]["seed"] for report in found}) < 4  # with the weights comes the donor's seed


class Breaks(OnlineTrainable):
    """Fails once at half of the way, until a file is there."""

    def step(self) -> dict[str, Any]:
        report = super().step()
        flag = Path(self.config["flag"]) if "flag" in self.config else None
        if flag is not None and report["step"] == STEPS // 2 and not flag.exists():
            flag.touch()
            raise RuntimeError("broken on purpose")
        return report

    def _begin(self, config: Any) -> Any:
        return super()._begin({name: value for name, value in config.items() if name != "flag"})


@pytest.mark.slow
def test_a_tuner_that_is_restored_goes_on_from_its_checkpoints(study: StudySpec, tmp_path: Path) -> None:
    trainable = tune.with_parameters(Breaks, spec=study, costs=COSTS)
    start = starts(study)[0]
    run_config = tune.RunConfig(
        storage_path=str(tmp_path),
        name="experiment",
        verbose=0,
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=2),
    )
    broken = tune.Tuner(trainable, param_space=start | {"flag": str(tmp_path / "flag")}, run_config=run_config).fit()
    assert len(broken.errors) == 1
    again = tune.Tuner.restore(str(tmp_path / "experiment"), trainable, resume_errored=True).fit()
    assert not again.errors
    (whole,) = fit(
        tune.with_parameters(OnlineTrainable, spec=study, costs=COSTS), tmp_path / "whole", start, num_samples=1
    )
    metrics = again[0].metrics or {}
    assert metrics["iterations_since_restore"] == STEPS // EVERY - 4  # from the checkpoint after the fourth point
    for name in (*NAMES, "t1_loss", "t2_loss", "test_loss", "step", "compute"):
        assert metrics[name] == whole[name]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine")
def test_a_trial_with_a_part_of_a_gpu_trains_on_it(tmp_path: Path) -> None:
    study = small_study(dtype="float32")
    trainable = tune.with_parameters(Told, spec=study)
    halves = tune.with_resources(trainable, {"cpu": 1, "gpu": 0.5})
    found = fit(halves, tmp_path, dict(param_space(study)), num_samples=2)
    assert [report["trained_on"] for report in found] == ["cuda", "cuda"]


class Told(OnlineTrainable):
    """Reports where it trains, too."""

    def step(self) -> dict[str, Any]:
        return super().step() | {"trained_on": self.problem.t1[0].device.type}


def test_without_a_gpu_among_its_resources_a_trial_trains_on_the_cpu(study: StudySpec, tmp_path: Path) -> None:
    trainable = tune.with_parameters(Told, spec=study)  # and measures its costs
    (report,) = fit(trainable, tmp_path, dict(param_space(study)), num_samples=1)
    assert report["trained_on"] == "cpu"
    assert report["compute"] > STEPS


def test_neither_the_packages_nor_their_rooms_load_tune() -> None:
    code = (
        "import sys, service, trainers, analysis, service.driver.run, service.cli.app, service.client.study_client\n"
        "import service.tune\n"
        "peers = ('ray.tune', 'optuna', 'mlflow', 'tensorboard', 'tensorboardX', 'wandb', 'datasets')\n"
        "print([name for name in peers if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
