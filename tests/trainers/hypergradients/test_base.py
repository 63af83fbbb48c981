"""What every estimator of the table has to keep to. A new one is tested here as soon as the table names it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import get_args
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from tests.trainers.images import image_config, image_split, small_cnn
from tests.trainers.problems import small_config, small_problem
from tests.trainers.runs import TUNED, after, bits, checkpoints, of_member, points, results, run
from trainers import Member, Problem, TrainConfig
from trainers.checkpoint import dumps, loads
from trainers.config import EstimatorName, HyperparameterConfig, OuterConfig, Range
from trainers.hypergradients import ESTIMATORS
from trainers.hypergradients.base import Estimator, Move, Step, T2Batch
from trainers.problem import build_problem
from trainers.state import start

MEMBERS = [Member(5, TUNED), Member(6, {"log10_l2": -5.0, "input_noise_std": 0.7})]
WIDE = HyperparameterConfig(log10_l2=Range(-6.0, 40.0), clamp=False)
DIVERGES = Member(6, {"log10_l2": 39.0, "input_noise_std": 0.6})  # θ grows more than 10³⁰ times with every step
ECONOMIES = {"averaging": 0.8, "carry": OuterConfig().carry, "tangent_every": 2, "tangent_batch": 3, "antithetic": True}

every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
every_optimiser = pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])


def training(estimator: str, optimiser: str, kinds: HyperparameterConfig | None = None) -> tuple[Problem, TrainConfig]:
    """20 steps, an outer step after each third."""
    inner = {"steps": 20, "optimiser": optimiser, "learning_rate": 0.05}
    outer = {"estimator": estimator, "every": 3, "batch_size": 5} | ECONOMIES
    config = small_config(inner=inner, outer=outer, hyperparameters=kinds)
    return small_problem(config), config


def module(estimator: str, optimiser: str) -> tuple[Problem, TrainConfig]:
    """The same for a network that autograd differentiates."""
    inner = {"steps": 6, "optimiser": optimiser, "learning_rate": 0.05}
    outer = {"estimator": estimator, "every": 3} | ECONOMIES
    config = image_config(small_cnn(), inner=inner, outer=outer)
    return build_problem(config, image_split()), config


Training = Callable[[str, str], tuple[Problem, TrainConfig]]
every_network = pytest.mark.parametrize("network", [training, module])


def test_the_table_names_what_a_configuration_may_name() -> None:
    assert tuple(ESTIMATORS) == get_args(EstimatorName)


@every_estimator
@every_optimiser
def test_it_gives_the_same_again_and_goes_on_from_any_checkpoint(estimator: str, optimiser: str) -> None:
    problem, config = training(estimator, optimiser)
    whole = run(problem, config, MEMBERS, checkpoint_every=1)
    assert bits(run(problem, config, MEMBERS, checkpoint_every=1)) == bits(whole)
    for saved in checkpoints(whole)[::4]:
        rest = run(problem, config, MEMBERS, checkpoint_every=1, resume=loads(dumps(saved)))
        assert bits(rest) == bits(after(whole, saved.step))


@every_estimator
@every_optimiser
def test_its_hypergradients_are_finite_and_every_member_has_its_own(estimator: str, optimiser: str) -> None:
    found = points(run(*training(estimator, optimiser), MEMBERS))[-2:]
    values = [list(point.hypergradient.values()) for point in found]
    assert all(math.isfinite(value) and value != 0 for row in values for value in row)
    assert values[0] != values[1]


@every_estimator
def test_a_member_that_diverges_disturbs_no_other(estimator: str) -> None:
    problem, config = training(estimator, "sgd", WIDE)
    calm = run(problem, config, [MEMBERS[0], Member(6, TUNED)])
    beside = run(problem, config, [MEMBERS[0], DIVERGES])
    assert [result.status for result in results(beside)] == ["completed", "diverged"]
    assert bits(of_member(beside, 0)) == bits(of_member(calm, 0))


@every_estimator
@every_optimiser
def test_its_tensors_are_its_own_and_no_larger_than_it_says(estimator: str, optimiser: str) -> None:
    problem, config = training(estimator, optimiser)
    state = start(problem, config, MEMBERS, online=True)
    assert state.estimator is not None
    tensors = state.estimator.tensors()
    owned = {id(value) for value in (state.theta, state.h, *state.inner.values(), *state.outer.values())}
    assert not owned & {id(value) for value in tensors.values()}
    assert all(value is tensors[name] for name, value in state.estimator.tensors().items())
    numbers = sum(value.numel() for value in tensors.values()) / len(MEMBERS)
    assert numbers <= state.estimator.memory(problem.task(config))


@contextmanager
def unchanged(*seen: Tensor) -> Iterator[None]:
    """What is done in between leaves the tensors as they are."""
    before = [value.clone() for value in seen]
    yield
    assert all(torch.equal(was, value) for was, value in zip(before, seen, strict=True))


def watched(kind: type[Estimator]) -> type[Estimator]:
    """The same, and everything that the loop hands to it is compared before and after."""

    def of_the_step(step: Step) -> list[Tensor]:
        parts = [*vars(step.values).values(), *step.noise]
        for part in vars(step.trace).values():
            parts += part if isinstance(part, list) else [part]
        inputs = step.inputs(step.y.shape[1])
        return [step.theta, inputs, step.y, *(part for part in parts if isinstance(part, Tensor))]

    def of_the_move(move: Move) -> list[Tensor]:
        return [move.theta, *([] if move.gradient is None else [move.gradient]), *move.optimiser.values()]

    class Watched(kind):  # type: ignore[misc, valid-type]
        def before_step(self, step: Step) -> None:
            with unchanged(*of_the_step(step)):
                super().before_step(step)

        def after_step(self, step: Step, move: Move) -> None:
            with unchanged(*of_the_step(step), *of_the_move(move)):
                super().after_step(step, move)

        def hypergradient(self, step: Step, move: Move, t2: T2Batch) -> Tensor:
            with unchanged(*of_the_step(step), *of_the_move(move), t2.x, t2.y):
                found: Tensor = super().hypergradient(step, move, t2)
            assert found.shape == step.values.h.shape
            return found

    return Watched


@every_estimator
@every_optimiser
@every_network
def test_it_changes_nothing_but_its_own_state(
    estimator: EstimatorName, optimiser: str, network: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, config = network(estimator, optimiser)
    plain = run(problem, config, MEMBERS)
    monkeypatch.setitem(ESTIMATORS, estimator, watched(ESTIMATORS[estimator]))
    assert bits(run(problem, config, MEMBERS)) == bits(plain)


@every_estimator
@every_network
def test_it_asks_for_tangents_only_if_it_says_so(
    estimator: EstimatorName, network: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, config = network(estimator, "adam")
    tangent = Mock(wraps=problem.network.tangent)
    monkeypatch.setattr(problem.network, "tangent", tangent)
    run(problem, config, MEMBERS)
    assert tangent.called == ESTIMATORS[estimator].needs_tangents
