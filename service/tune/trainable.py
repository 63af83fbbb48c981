"""T1-T2 as a trainable of Ray Tune, so that anybody's Tuner can run it under any scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
import torch
from ray import tune
from ray.tune import PlacementGroupFactory

from service.spec.study_spec import StudySpec
from service.tune.training import Training, measured_costs, train_config
from trainers.costs import Costs
from trainers.problem import load_problem


class OnlineTrainable(tune.Trainable):
    """One training of a study's spec for each trial: ``tune.with_parameters(OnlineTrainable, spec=spec)``.

    A trial's config holds the start of each hyperparameter by its column name (``log10_l2``, ``input_noise_std``, …)
    and, if trials are to differ in their draws, a ``seed``; without one, all take the spec's. Parameters:

    - ``spec``: a :class:`service.StudySpec`, or a mapping of its structure;
    - ``model``: the label of one of its models, where it has several;
    - ``online``: whether T1-T2 moves the hyperparameters (the default), or they stay as they start;
    - ``costs``: what a training costs, by :func:`trainers.measure_costs`. Where it is not given, each actor takes a
      short measurement, and what trials on different actors report as ``compute`` differs by its error.

    ``step`` trains to the next recorded point, ``spec.record_every`` inner steps further, and reports ``step`` (inner
    steps so far), ``t1_loss``, ``t2_loss`` (nats), each hyperparameter, and ``compute`` in inner-step equivalents. The
    last report of a trial adds ``t2_error``, ``test_loss``, ``test_error``, ``train_time_s`` and ``status``. The losses
    of a training that has diverged are infinite.

    Checkpoints are safetensors and JSON. Where a trial is given one of another start or seed, as in the exploit of
    population based training, it takes over all but the hyperparameters and the seed: see ``branch_from`` of
    :func:`trainers.train`. With ``checkpoint_at_end`` the checkpoint is that of the point before the last one.

    A trial trains on a GPU where its resources name one: ``tune.with_resources(trainable, {"cpu": 1, "gpu": 0.25})``.
    Raises :class:`service.SpecError` and :class:`trainers.ConfigError` for what does not fit.
    """

    def setup(
        self,
        config: dict[str, Any],
        spec: StudySpec | Mapping[str, Any] | None = None,
        model: str | None = None,
        online: bool = True,
        costs: Costs | None = None,
    ) -> None:
        """Load the problem, once for all trials that this actor serves."""
        if self.trial_resources is not None:  # else each of several actors on a machine would take all of its cores
            torch.set_num_threads(max(1, int(self.trial_resources.required_resources.get("CPU", 1))))
        self.study, self.settings = train_config(spec, model)
        self.problem = load_problem(self.settings, device())
        self.costs = costs or measured_costs(self.problem, self.settings)
        self.online = online
        self.training = self._begin(config)

    def _begin(self, config: Mapping[str, Any]) -> Training:
        return Training(self.problem, self.settings, config, seed=self.study.seed, online=self.online, costs=self.costs)

    def step(self) -> dict[str, Any]:
        """Train to the next recorded point, and report it."""
        return self.training.advance()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the state at the last point."""
        self.training.save(checkpoint_dir)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from a checkpoint of this trial, or branch off from one of another."""
        self.training.load(checkpoint)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial on the same problem, for ``reuse_actors``."""
        self.training = self._begin(new_config)
        return True

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        """One core; a network of the size that studies are made of is not quicker on several."""
        return PlacementGroupFactory([{"CPU": 1}])


def device() -> str:
    """Where the trial of this process trains: on the GPU, or the part of one, that Ray has given to it."""
    return "cuda" if ray.is_initialized() and ray.get_gpu_ids() else "cpu"
