"""What is kept of a rival's trials as Ray Tune runs them, and what they have cost so far."""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from service.tune.baselines.trials import Trial
from service.tune.training import SEED
from trainers.config import TrainConfig
from trainers.costs import Costs


class Recorder(tune.Callback):
    """Notes every report of every trial, in the order in which they come.

    A report is charged with the inner steps since the one before and one evaluation of T2. A population's trial that
    takes over the weights of another is charged with its own steps alone.
    """

    def __init__(self, arm: str, config: TrainConfig, costs: Costs) -> None:
        self.arm, self.costs = arm, costs
        self.every = config.record_every
        self.trials: dict[str, Trial] = {}
        self.spent = self.spent_s = 0.0

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """A trial begins, or goes on."""
        if trial.trial_id not in self.trials:
            initial = {name: float(value) for name, value in trial.config.items() if name != SEED}
            self.trials[trial.trial_id] = Trial(
                arm=self.arm, number=len(self.trials), seed=int(trial.config[SEED]), initial=initial
            )

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has come to its next point."""
        mine = self.trials[trial.trial_id]
        step = int(result["step"])
        taken = step - (step - 1) // self.every * self.every
        compute, seconds = self.costs.compute(taken, online=False, evaluations=1), float(result["time_this_iter_s"])
        self.spent += compute
        self.spent_s += seconds
        mine.compute += compute
        mine.seconds += seconds
        mine.spent, mine.spent_s = self.spent, self.spent_s
        mine.reports.append({name: result[name] for name in REPORTED if name in result} | _values(result, mine.initial))

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """A trial has failed."""
        why = trial.get_error() if hasattr(trial, "get_error") else None
        self.trials[trial.trial_id].error = str(why) if why else "the trial's actor died"


REPORTED = (
    "step", "t1_loss", "t2_loss", "t2_error", "test_loss", "test_error", "train_time_s", "status",
)  # fmt: skip


def _values(result: dict[str, Any], names: dict[str, float]) -> dict[str, float]:
    return {name: float(result[name]) for name in names}


class Budget(tune.Stopper):
    """Ends a search once it has spent what it may."""

    def __init__(self, record: Recorder, budget: float) -> None:
        self.record = record
        self.budget = budget * (1 - 1e-9)  # a sum of many parts may end a rounding below it

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether this trial ends: that is the scheduler's to say."""
        return False

    def stop_all(self) -> bool:
        """Whether all is over."""
        return self.record.spent >= self.budget
