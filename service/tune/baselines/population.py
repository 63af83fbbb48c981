"""Ray Tune's population based training with draws of its own, for populations in which a trial may end early."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining


class Population(PopulationBasedTraining):
    """Tune's own, with two changes.

    - ``seed`` alone determines its draws. Tune's own takes them from the generators of the process, from which others
      draw as well, and how often they do depends on timing.
    - It goes on where the trial that all others waited for has ended, because it diverged or failed. Tune's own
      compares a population as the last trial reports that it has come to the next comparison; where that one ends
      instead, the others would wait for ever. Here they go on to the comparison after it.
    """

    def __init__(self, *, seed: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._draws = random.Random(seed).getstate()
        self._samples = np.random.RandomState(seed % 2**32).get_state()

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """A trial has come to its next point."""
        with self._own_draws():
            return str(super().on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A trial has ended by itself."""
        super().on_trial_complete(tune_controller, trial, result)
        self._go_on_without(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A trial has failed, and is not tried again."""
        super().on_trial_error(tune_controller, trial)
        tune_controller.get_live_trials().discard(trial)  # where Tune leaves it, for the others to wait for
        self._go_on_without(tune_controller, trial)

    def _go_on_without(self, tune_controller: Any, ended: Trial) -> None:
        others = [self._trial_state[trial] for trial in tune_controller.get_live_trials() if trial is not ended]
        if others and all(state.last_train_time >= self._next_perturbation_sync for state in others):
            self._next_perturbation_sync += self._perturbation_interval

    @contextmanager
    def _own_draws(self) -> Iterator[None]:
        """Let the process's generators go on from where this population last left them."""
        others = random.getstate(), np.random.get_state()  # noqa: NPY002 - what Tune draws from
        random.setstate(self._draws)
        np.random.set_state(self._samples)  # noqa: NPY002
        try:
            yield
        finally:
            self._draws, self._samples = random.getstate(), np.random.get_state()  # noqa: NPY002
            random.setstate(others[0])
            np.random.set_state(others[1])  # noqa: NPY002
