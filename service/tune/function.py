"""The functional form of :class:`service.tune.trainable.OnlineTrainable`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

from ray import tune

from service.spec.study_spec import StudySpec
from service.tune.trainable import device
from service.tune.training import Training, measured_costs, train_config
from trainers.costs import Costs
from trainers.problem import load_problem


def online_function(
    config: dict[str, Any],
    spec: StudySpec | Mapping[str, Any] | None = None,
    model: str | None = None,
    online: bool = True,
    costs: Costs | None = None,
    checkpoint_every: int = 1,
) -> None:
    """Train one trial and report its points: ``tune.with_parameters(online_function, spec=spec)``.

    Config, parameters and reports are those of :class:`service.tune.OnlineTrainable`. Each ``checkpoint_every``-th
    report comes with a checkpoint; 0 leaves them out.
    """
    study, settings = train_config(spec, model)
    problem = load_problem(settings, device())
    costs = costs or measured_costs(problem, settings)
    training = Training(problem, settings, config, seed=study.seed, online=online, costs=costs)
    given = tune.get_checkpoint()
    if given is not None:
        with given.as_directory() as directory:
            training.load(directory)
    done, reports = False, 0
    while not done:
        report = training.advance()
        done, reports = report.pop("done"), reports + 1
        if done or checkpoint_every == 0 or reports % checkpoint_every:
            tune.report(report)
        else:
            with tempfile.TemporaryDirectory() as directory:
                training.save(directory)
                tune.report(report, checkpoint=tune.Checkpoint.from_directory(directory))
