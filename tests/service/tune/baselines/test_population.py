"""Populations in which a trial ends before the others, by a real Tuner."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune

from service.tune.baselines.population import Population

POINTS, EVERY, ENDS_AT = 8, 2, 3  # the population is compared after 2, 4 and 6 points


class Counting(tune.Trainable):
    """Counts to eight; the last of four ends on its way from one comparison to the next."""

    def setup(self, config: dict[str, Any], way: str = "") -> None:
        self.way = way
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.number, self.count = new_config["number"], 0
        return True

    def step(self) -> dict[str, Any]:
        self.count += 1
        ends = self.number == 3 and self.count == ENDS_AT
        if ends and self.way == "fails":
            raise RuntimeError("this trial fails")
        return {"t2_loss": 1 / self.count, "done": ends or self.count == POINTS}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "count").write_text(str(self.count))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.count = int((Path(checkpoint) / "count").read_text())


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
        patch.setenv("RAY_AIR_NEW_OUTPUT", "0")
        patch.setenv("RAY_worker_niceness", "0")
        ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("way", ["is done", "fails"])
def test_the_others_do_not_wait_for_a_trial_that_has_ended(tmp_path: Path, way: str) -> None:
    scheduler = Population(
        seed=1,
        time_attr="training_iteration",
        perturbation_interval=EVERY,
        quantile_fraction=0.0,  # none takes over another's number
        hyperparam_mutations={"rate": tune.uniform(0, 1)},
        synch=True,
        log_config=False,
    )
    found = tune.Tuner(
        tune.with_parameters(Counting, way=way),
        param_space={"number": tune.grid_search([0, 1, 2, 3]), "rate": 0.5},
        tune_config=tune.TuneConfig(
            metric="t2_loss", mode="min", scheduler=scheduler, reuse_actors=True, time_budget_s=90
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path), name="population", verbose=0),
    ).fit()
    counts = [(found[place].metrics or {})["training_iteration"] for place in range(len(found))]
    assert counts == [POINTS, POINTS, POINTS, ENDS_AT if way == "is done" else ENDS_AT - 1]
    assert len(found.errors) == (way == "fails")
