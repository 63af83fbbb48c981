"""The methods that are compared, and how Ray Tune is told to run a rival: its searcher and its scheduler."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from service.errors import StudyError
from service.tune.training import SEED
from trainers.config import EstimatorName
from trainers.state import LARGEST_SEED

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search import SearchAlgorithm, Searcher

TIME = "training_iteration"  # what schedulers count in: the points that a trial has reported
POINTS = 20  # how often in a training a scheduler sees the T2 loss
REDUCTION = 4  # of ASHA: a trial of four goes on at each rung; Tune's default
BRACKET_REDUCTION = 3  # of Hyperband, as its authors propose
PERTURBATION_POINTS = 2  # of population based training: points from one exploit to the next
QUANTILE = 0.25  # and the share of the population that is replaced then, Tune's default
STARTUP_TRIALS = 10  # that TPE draws at random before it models the loss; Optuna's default
Box = Mapping[str, tuple[float, float]]  # the hyperparameters, each with its low and its high
Start = dict[str, Any]  # a trial's config: its seed, and the start of each hyperparameter


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to come to good hyperparameters."""

    name: str  # the arm in the tables
    estimator: EstimatorName | Literal["spec"] | None = None  # of T1-T2; None: fixed hyperparameters
    searcher: Literal["random", "tpe"] = "random"
    scheduler: Literal["asha", "hyperband", "pbt"] | None = None
    population: int = 0  # of population based training, which spends as many trainings

    @property
    def is_tuned(self) -> bool:
        """Whether it moves the hyperparameters by hypergradients."""
        return self.estimator is not None

    @property
    def rerun(self) -> str:
        """The arm of the fixed trainings with its final values."""
        return "rerun" if self.name == "online" else f"{self.name}-rerun"

    @property
    def points(self) -> int:
        """How often it is told the T2 loss during a training, the end included."""
        return POINTS if self.scheduler else 1


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(name="online", estimator="spec"),
        Method(name="t1t2", estimator="t1t2"),
        Method(name="random"),
        Method(name="asha", scheduler="asha"),
        Method(name="hyperband", scheduler="hyperband"),
        Method(name="tpe", searcher="tpe"),
        Method(name="tpe-asha", searcher="tpe", scheduler="asha"),
        Method(name="pbt-4", scheduler="pbt", population=4),
        Method(name="pbt-8", scheduler="pbt", population=8),
        Method(name="pbt-16", scheduler="pbt", population=16),
    )
}


def check_installed(method: Method) -> None:
    """Raise :class:`service.StudyError` where a method needs a package that is not here."""
    if method.searcher == "tpe" and not importlib.util.find_spec("optuna"):
        raise StudyError(f"method {method.name!r} needs Optuna:  pip install 't1t2-study[optuna]'  (or leave it out)")


def scheduler_of(method: Method, boxes: Box, seed: int) -> TrialScheduler | None:
    """Tune's own scheduler; it counts in points, and sees the T2 loss. None runs every trial to its end."""
    from ray.tune.schedulers import ASHAScheduler, HyperBandScheduler

    from service.tune.baselines.population import Population

    if method.scheduler == "asha":
        return ASHAScheduler(time_attr=TIME, max_t=POINTS, grace_period=1, reduction_factor=REDUCTION)
    if method.scheduler == "hyperband":
        return HyperBandScheduler(time_attr=TIME, max_t=POINTS, reduction_factor=BRACKET_REDUCTION)
    if method.scheduler == "pbt":
        return Population(
            seed=seed,
            time_attr=TIME,  # its own default is seconds
            perturbation_interval=PERTURBATION_POINTS,
            quantile_fraction=QUANTILE,
            hyperparam_mutations=dict(_uniform(boxes)),
            custom_explore_fn=partial(_into, boxes),
            synch=True,  # a population is compared when all of it has come to the same step
            log_config=False,
        )
    return None


def _into(boxes: Box, config: Start) -> Start:
    """A config in the box, which a perturbation by 1.2 or 0.8 may have left."""
    return config | {name: min(max(config[name], low), high) for name, (low, high) in boxes.items()}


def searcher_of(method: Method, boxes: Box, starts: list[Start], seed: int) -> SearchAlgorithm | Searcher:
    """Where trials begin: at ``starts``, one after the other, or from the eleventh on where TPE says."""
    if method.searcher == "random":
        from ray.tune.search.basic_variant import BasicVariantGenerator

        return BasicVariantGenerator(points_to_evaluate=starts, random_state=seed)
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed % 2**32)
    first = [{name: start[name] for name in boxes} for start in starts[:STARTUP_TRIALS]]
    return OptunaSearch(
        space=partial(_suggest, boxes, starts), sampler=sampler, points_to_evaluate=first, metric="t2_loss", mode="min"
    )


def _suggest(boxes: Box, starts: list[Start], trial: Any) -> Start:
    """A trial's hyperparameters, and its seed: drawn for it alone, as in random search, and not for TPE to model."""
    for name, (low, high) in boxes.items():
        trial.suggest_float(name, low, high)
    return {SEED: starts[trial.number][SEED]}


def space_of(method: Method, boxes: Box) -> dict[str, Any]:
    """What ``Tuner(param_space=…)`` is told. OptunaSearch has the space already."""
    from ray import tune

    if method.searcher == "tpe":
        return {}
    return dict(_uniform(boxes)) | {SEED: tune.randint(0, LARGEST_SEED)}


def _uniform(boxes: Box) -> dict[str, Any]:
    from ray import tune

    return {name: tune.uniform(low, high) for name, (low, high) in boxes.items()}
