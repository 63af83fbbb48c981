"""The state of a pack: how it starts, what of it a checkpoint holds, and whose checkpoint it takes back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.trainers.problems import ALL_KINDS, small_config, small_problem
from tests.trainers.runs import TUNED, bits, checkpoints, run
from trainers import Checkpoint, ConfigError, Member, Problem, TrainConfig
from trainers.config import HyperparameterConfig
from trainers.state import start

MEMBERS = [Member(5, TUNED), Member(6, {"log10_l2": -5.0, "input_noise_std": 0.7})]


def problem_of(estimator: str, optimiser: str) -> tuple[Problem, TrainConfig]:
    """26 steps, with an outer step after each fourth."""
    inner = {"steps": 26, "optimiser": optimiser, "learning_rate": 0.05}
    config = small_config(inner=inner, outer={"estimator": estimator, "every": 4, "averaging": 0.9})
    return small_problem(config), config


@pytest.fixture(scope="module")
def saved() -> Checkpoint:
    return checkpoints(run(*problem_of("forward", "adam"), MEMBERS, checkpoint_every=20))[0]


def test_it_starts_from_the_members_seeds_and_values() -> None:
    problem, config = problem_of("forward", "adam")
    state = start(problem, config, MEMBERS, online=True)
    for row, member in enumerate(MEMBERS):
        assert torch.equal(state.theta[row], problem.network.initial(member.seed))
        assert state.h[row].tolist() == list(member.hyperparameters.values())
    assert (state.step, state.seconds) == (0, 0.0)
    assert state.hypergradient.isnan().all()
    assert not state.diverged_at.any()


def test_fixed_hyperparameters_need_no_estimator_and_nothing_that_it_would_carry() -> None:
    problem, config = problem_of("forward", "adam")
    state = start(problem, config, MEMBERS, online=False)
    assert state.estimator is None
    assert not [name for name in state.tensors() if name.startswith(("z", "average"))]


def test_the_names_of_a_checkpoint_stay(saved: Checkpoint) -> None:
    """Checkpoints outlive a version of this package: an actor of the next one goes on from them."""
    assert set(saved.tensors) == {
        "seeds", "initial", "theta", "h", "hypergradient", "finite_h", "diverged_at", "seconds",
        "inner.mean", "inner.square", "outer.mean", "outer.square",
        "z", "z_state.mean", "z_state.square", "average.theta", "average.z",
    }  # fmt: skip


def test_a_checkpoint_is_a_copy_and_what_it_restores_is_the_state_that_it_was_taken_from() -> None:
    problem, config = problem_of("forward", "momentum")
    state = start(problem, config, MEMBERS, online=True)
    draw = torch.Generator().manual_seed(1)
    for tensor in state.tensors().values():
        tensor.copy_(100 * torch.rand(tensor.shape, generator=draw))
    state.step, state.seconds = 7, 1.25
    copy = state.checkpoint()
    before = bits([copy])
    for tensor in state.tensors().values():
        tensor.zero_()
    assert bits([copy]) == before

    fresh = start(problem, config, MEMBERS, online=True)
    fresh.restore(copy)
    assert bits([fresh.checkpoint()]) == before
    assert (fresh.step, fresh.seconds) == (7, 1.25)


def test_a_checkpoint_holds_everything_that_changes() -> None:
    kinds = HyperparameterConfig(log10_l2=None, label_smoothing=ALL_KINDS.label_smoothing)
    outer = {"estimator": "forward"}
    config = small_config(inner={"steps": 4, "optimiser": "adam"}, outer=outer, hyperparameters=kinds)
    problem = small_problem(config)
    (saved,) = checkpoints(
        run(problem, config, [Member(1, {"input_noise_std": 0.1, "label_smoothing": 0.1})] * 3, checkpoint_every=3)
    )
    size = problem.network.size
    shapes = {name: tuple(t.shape) for name, t in saved.tensors.items()}
    wanted = {
        "theta": (3, size),
        "h": (3, 2),
        "z": (3, 2, size),
        "inner.mean": (3, size),
        "inner.square": (3, size),
        "outer.mean": (3, 2),
        "outer.square": (3, 2),
        "z_state.mean": (3, 2, size),
    }
    assert wanted.items() <= shapes.items()


def foreign(name: str) -> tuple[Problem, TrainConfig, list[Member], bool]:
    """A training that the checkpoint of ``saved`` does not belong to."""
    problem, config = problem_of("forward", "adam")
    if name == "another pack":
        return problem, config, MEMBERS[:1], True
    if name == "another arm":
        return problem, config, MEMBERS, False
    if name == "other seeds":
        return problem, config, [replace(m, seed=m.seed + 1) for m in MEMBERS], True
    if name == "other starts":
        return problem, config, MEMBERS[::-1], True
    if name == "fewer steps":
        return problem, replace(config, inner=replace(config.inner, steps=10)), MEMBERS, True
    if name == "another optimiser":
        return *problem_of("forward", "momentum"), MEMBERS, True
    if name == "another estimator":
        return *problem_of("t1t2", "adam"), MEMBERS, True
    changed = (
        replace(config, dtype="float32")
        if name == "another type"
        else replace(config, model=replace(config.model, hidden=(4, 5)))
    )
    return small_problem(changed), changed, MEMBERS, True


@pytest.mark.parametrize(
    "name",
    [
        "another pack",
        "another arm",
        "other seeds",
        "other starts",
        "fewer steps",
        "another optimiser",
        "another estimator",
        "another type",
        "another model",
    ],
)
def test_a_checkpoint_of_another_training_is_refused(saved: Checkpoint, name: str) -> None:
    problem, config, members, online = foreign(name)
    with pytest.raises(ConfigError, match=r"checkpoint.*must be"):
        run(problem, config, members, online, resume=saved)


@pytest.mark.parametrize(
    "values",
    [
        {"log10_l2": -3.0},
        {"log10_l2": -3.0, "input_noise_std": 0.1, "label_smoothing": 0.1},
        {"log10_l2_layer1": -3.0, "input_noise_std": 0.1},
        {},
    ],
)
def test_a_member_with_other_hyperparameters_than_the_configurations_is_refused(values: dict[str, float]) -> None:
    config = small_config()
    with pytest.raises(ConfigError, match="hyperparameters of a member") as caught:
        run(small_problem(config), config, [Member(1, TUNED), Member(2, values)])
    assert str(sorted(values)) in str(caught.value)
    assert "['input_noise_std', 'log10_l2']" in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True])
def test_a_seed_is_what_a_table_can_hold(seed: float) -> None:
    config = small_config()
    with pytest.raises(ConfigError, match=f"seed = {seed} of a member: must be a whole number from 0 to {2**63 - 1}"):
        run(small_problem(config), config, [Member(1, TUNED), Member(seed, TUNED)])  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_start_is_a_finite_number(value: float) -> None:
    config = small_config()
    with pytest.raises(ConfigError, match=f"hyperparameters.log10_l2 = {value!r} of a member: must be a finite"):
        run(small_problem(config), config, [Member(1, TUNED | {"log10_l2": value})])
