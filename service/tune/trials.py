"""A study's runs as trials of Ray Tune: its search space, and its own starts and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import tune
from ray.tune.search.sample import Domain

from service.spec.arms import ARMS
from service.spec.plan import make_plan
from service.spec.study_spec import StudySpec
from service.tune.training import SEED, train_config
from trainers.state import LARGEST_SEED


def param_space(
    spec: StudySpec | Mapping[str, Any], model: str | None = None, *, seeds: bool = False
) -> dict[str, Domain]:
    """Uniform over the box of each hyperparameter, by column name, for ``Tuner(param_space=…)``.

    The box is what a searcher may try, whatever the spec says of starts: :func:`starts` draws those as the study does.

    With ``seeds``, each trial draws a seed, too. Without, all trials share the spec's: a searcher then compares
    hyperparameters under the same draws, and does not take the seed for a hyperparameter.
    """
    study, config = train_config(spec, model)
    boxes = make_plan(study).boxes[_place(study, config.model.label)]
    space: dict[str, Domain] = {name: tune.uniform(box.low, box.high) for name, box in boxes.items()}
    return space | ({SEED: tune.randint(0, LARGEST_SEED)} if seeds else {})


def starts(spec: StudySpec | Mapping[str, Any], model: str | None = None) -> list[dict[str, Any]]:
    """The starts and seeds of the study's configurations: what its arms ``initial`` and ``online`` begin with.

    For ``BasicVariantGenerator(points_to_evaluate=starts(spec))`` with ``param_space(spec, seeds=True)``: each trial's
    numbers are then those of the study.
    """
    study, config = train_config(spec, model)
    plan, place = make_plan(study), _place(study, config.model.label)
    arm = ARMS["online"]
    runs = (plan.run(arm, place, slot) for slot in range(plan.slots(arm)))
    return [{SEED: run.seed, **run.initial} for run in runs]


def _place(study: StudySpec, label: str) -> int:
    return [config.model.label for config in study.train_configs()].index(label)
