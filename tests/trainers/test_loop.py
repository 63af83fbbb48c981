"""The loop: what it yields and when, what the arms share, and that its records say what happened."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.problems import ALL_KINDS, LN10, cross_entropy, small_config, small_problem
from tests.trainers.runs import TUNED, assert_close, bits, checkpoints, of_member, points, results, run
from trainers import ConfigError, Member, Point, Problem, TrainConfig, train
from trainers.batches import Order
from trainers.config import EstimatorName, HyperparameterConfig, Range
from trainers.hypergradients import ESTIMATORS as KINDS_OF_ESTIMATOR
from trainers.hypergradients.base import Move, Step, T2Batch
from trainers.noise import Noise, whole
from trainers.records import Record
from trainers.seeding import Stream

ESTIMATORS = ["t1t2", "t1t2_at_theta", "t1t2_lagged", "seed_literal", "neumann", "forward"]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("steps", "record_every", "wanted"),
    [(10, 4, [0, 4, 8, 10]), (8, 4, [0, 4, 8]), (3, 100, [0, 3]), (3, 1, [0, 1, 2, 3])],
)
def test_points_come_at_the_start_at_every_so_many_steps_and_at_the_end(
    steps: int, record_every: int, wanted: list[int]
) -> None:
    config = small_config(inner={"steps": steps}, record_every=record_every)
    records = run(small_problem(config), config, [Member(1, TUNED), Member(2, TUNED)])
    assert [(p.step, p.member) for p in points(records)] == [(step, member) for step in wanted for member in (0, 1)]
    assert [(r.member, r.status, r.steps) for r in results(records[-2:])] == [
        (0, "completed", steps),
        (1, "completed", steps),
    ]
    assert len(records) == 2 * len(wanted) + 2


@pytest.mark.parametrize("checkpoint_every", [1, 3, 5, 10, 11])
def test_checkpoints_come_when_asked_for_and_change_nothing(checkpoint_every: int) -> None:
    config = small_config(inner={"steps": 10}, outer={"every": 2, "estimator": "forward"}, record_every=4)
    problem = small_problem(config)
    plain = run(problem, config, [Member(1, TUNED)])
    records = run(problem, config, [Member(1, TUNED)], checkpoint_every=checkpoint_every)
    assert [c.step for c in checkpoints(records)] == list(range(checkpoint_every, 10, checkpoint_every))
    assert bits([r for r in records if r not in checkpoints(records)]) == bits(plain)


def test_nothing_is_trained_before_a_record_is_asked_for() -> None:
    config = small_config(inner={"steps": 10**6}, record_every=1)
    records = train(small_problem(config), config, [Member(1, TUNED)], online=True)
    assert next(records).step == 0  # type: ignore[union-attr]
    assert next(records).step == 1  # type: ignore[union-attr]


@given(
    values=st.fixed_dictionaries({"log10_l2": st.floats(-20, 0), "input_noise_std": st.floats(0, 5)}),
    seed=st.integers(0, 2**63 - 1),
    estimator=st.sampled_from(ESTIMATORS),
)
@settings(max_examples=20)
def test_a_fixed_training_leaves_its_hyperparameters_exactly_as_given(
    values: dict[str, float], seed: int, estimator: str
) -> None:
    config = small_config(inner={"steps": 6}, outer={"estimator": estimator})
    records = run(small_problem(config), config, [Member(seed, values)], online=False)
    (result,) = results(records)
    assert result.initial == result.final == values
    for point in points(records):
        assert point.hyperparameters == values
        assert all(math.isnan(value) for value in point.hypergradient.values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float32_keeps_the_given_hyperparameters_in_full(dtype: Literal["float32", "float64"]) -> None:
    config = replace(small_config(inner={"steps": 6}), dtype=dtype)
    values = {"log10_l2": -math.pi, "input_noise_std": 0.1}
    (result,) = results(run(small_problem(config), config, [Member(1, values)], online=False))
    assert result.final == values


def still(config: TrainConfig) -> TrainConfig:
    """The same with hyperparameters that do not move."""
    kinds = config.hyperparameters
    boxes = {name: box for name, box in vars(kinds).items() if isinstance(box, Range)}
    frozen: dict[str, Any] = {name: replace(box, learning_rate=0.0) for name, box in boxes.items()}
    return replace(config, hyperparameters=replace(kinds, **frozen))


def without_hypergradients(records: list[Record]) -> list[str]:
    return bits([replace(r, hypergradient={}) if isinstance(r, Point) else r for r in records])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_arms_share_weights_batches_and_noise(estimator: str, optimiser: str) -> None:
    """Online, but at a rate of 0, is the fixed training bit for bit: only hyperparameters make arms differ."""
    kinds = HyperparameterConfig() if estimator == "seed_literal" else ALL_KINDS
    outer = {"estimator": estimator, "every": 3, "optimiser": optimiser, "batch_size": 5}
    config = still(small_config(inner={"steps": 20, "optimiser": optimiser}, outer=outer, hyperparameters=kinds))
    problem = small_problem(config)
    start = {name: -3.1 if name.startswith("log10") else 0.25 for name in problem.layout.names}
    members = [Member(seed, start) for seed in (1, 2)]
    online, fixed = run(problem, config, members), run(problem, config, members, online=False)
    assert without_hypergradients(online) == without_hypergradients(fixed)
    assert any(value != 0 for value in points(online)[-1].hypergradient.values())


def test_the_variance_coordinate_keeps_a_value_that_takes_no_step() -> None:
    box = Range(0.0, 0.8, learning_rate=0.0, coordinate="variance")
    config = small_config(inner={"steps": 10}, hyperparameters=HyperparameterConfig(log10_l2=None, input_noise_std=box))
    (result,) = results(run(small_problem(config), config, [Member(1, {"input_noise_std": 0.1})]))
    assert result.final == {"input_noise_std": 0.1}


def test_until_the_first_outer_step_online_is_the_fixed_training() -> None:
    config = small_config(inner={"steps": 12}, outer={"every": 5})
    problem = small_problem(config)
    online, fixed = (points(run(problem, config, [Member(1, TUNED)], online=on)) for on in (True, False))
    assert bits(online[:5]) == bits(fixed[:5])
    assert online[5].t2_loss == fixed[5].t2_loss  # the hyperparameters have moved, the weights have not felt it yet
    assert online[5].hyperparameters != fixed[5].hyperparameters
    assert online[6].t2_loss != fixed[6].t2_loss


@pytest.mark.parametrize("online", [False, True])
def test_records_measure_the_clean_losses_of_the_weights_they_belong_to(online: bool) -> None:
    config = small_config(inner={"steps": 7}, outer={"every": 2})
    problem = small_problem(config)
    members = [Member(7, TUNED), Member(8, TUNED)]
    records = run(problem, config, members, online)
    longer = replace(config, inner=replace(config.inner, steps=8))
    saved = checkpoints(run(problem, longer, members, online, checkpoint_every=1))
    shapes = [p.shape for p in problem.network.parameters]
    thetas = torch.stack([problem.network.initial(m.seed) for m in members]), *(c.tensors["theta"] for c in saved)
    order = Order(*problem.t1, [7, 8], Stream.T1_ORDER, 8)
    noise = Noise([7, 8], problem.network.noise_shapes, 8, thetas[0])
    for point in points(records):
        theta = thetas[point.step][point.member]
        assert point.t2_loss == pytest.approx(float(cross_entropy(theta, shapes, *problem.t2)), rel=1e-12)
        if point.step == 0:
            assert math.isnan(point.t1_loss)  # no batch has been seen
        else:
            (x, y), (epsilon, *_) = order.at(point.step - 1), noise.at(point.step - 1)
            assert epsilon is not None
            std = saved[point.step - 2].tensors["h"][point.member, 1] if point.step > 1 else TUNED["input_noise_std"]
            x = x[point.member] + std * whole(epsilon, 8)[point.member]
            loss = cross_entropy(thetas[point.step - 1][point.member], shapes, x, y[point.member])
            assert point.t1_loss == pytest.approx(float(loss), rel=1e-12)
    for result in results(records):
        theta = thetas[7][result.member]
        for name in ("t1", "t2", "test"):
            wanted = float(cross_entropy(theta, shapes, *getattr(problem, name)))
            assert getattr(result, f"{name}_loss") == pytest.approx(wanted, rel=1e-12)
        assert result.t2_loss == points(records, result.member)[-1].t2_loss
        for found, (x, y) in ((result.t2_error, problem.t2), (result.test_error, problem.test)):
            wrong = sum(int(answer(theta, shapes, row) != label) for row, label in zip(x, y, strict=True))
            assert found == pytest.approx(wrong / len(y), rel=1e-12)


@pytest.mark.parametrize("batch", [7, 8, 24])
@pytest.mark.parametrize("estimator", ["t1t2", "forward"])
def test_a_steps_inputs_are_clean_and_shared_data_are_never_written_into(
    batch: int, estimator: EstimatorName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network writes its noise into a batch that is a copy; 24 examples are the whole set, which is none."""
    config = small_config(inner={"steps": 8, "batch_size": batch}, outer={"estimator": estimator, "every": 2})
    problem = small_problem(config)
    order = Order(*problem.t1, [1, 2], Stream.T1_ORDER, batch)
    before = [part.clone() for part in (*problem.t1, *problem.t2, *problem.test)]
    seen = []

    class Watching(KINDS_OF_ESTIMATOR[estimator]):  # type: ignore[misc, valid-type]
        def before_step(self, step: Step) -> None:
            x, y = order.at(step.number - 1)
            for examples in (1, 4, batch):
                assert torch.equal(step.inputs(examples), x[:, :examples])
            assert torch.equal(step.y, y)
            noisy = step.trace.inputs[0]
            epsilon = step.noise[0]
            assert epsilon is not None
            torch.testing.assert_close(noisy, x + 0.3 * whole(epsilon, batch), rtol=1e-12, atol=1e-12)
            seen.append(step.number)
            super().before_step(step)

        def hypergradient(self, step: Step, move: Move, t2: T2Batch) -> torch.Tensor:
            x, _ = order.at(step.number - 1)
            found: torch.Tensor = super().hypergradient(step, move, t2)
            assert torch.equal(step.inputs(batch), x)  # after the outer step too
            return found * 0

    monkeypatch.setitem(KINDS_OF_ESTIMATOR, estimator, Watching)
    run(problem, config, [Member(1, TUNED), Member(2, TUNED)])
    assert seen == list(range(1, 9))
    after = (*problem.t1, *problem.t2, *problem.test)
    assert all(torch.equal(was, part) for was, part in zip(before, after, strict=True))


def test_each_outer_step_takes_the_next_batch_of_t2() -> None:
    """Its hypergradient of λ, -η1 ln 10 10^λ <v, θ>, with v on the T2 batch that its number stands for."""
    config = still(small_config(inner={"steps": 6}, outer={"estimator": "t1t2_at_theta", "batch_size": 5, "every": 2}))
    problem = small_problem(config)
    records = run(problem, config, [Member(7, TUNED)], checkpoint_every=1)
    thetas = [c.tensors["theta"][0] for c in checkpoints(records)]
    shapes = [p.shape for p in problem.network.parameters]
    order = Order(*problem.t2, [7], Stream.T2_ORDER, 5)
    for number in (1, 2, 3):
        theta = thetas[2 * number - 2].clone().requires_grad_()  # before the inner step
        x, y = order.at(number)
        (v,) = torch.autograd.grad(cross_entropy(theta, shapes, x[0], y[0]), theta)
        wanted = -0.3 * LN10 * 10 ** TUNED["log10_l2"] * float((v * theta.detach()).sum())
        assert points(records)[2 * number].hypergradient["log10_l2"] == pytest.approx(wanted, rel=1e-9)


def answer(theta: torch.Tensor, shapes: list[tuple[int, ...]], x: torch.Tensor) -> int:
    """The class with the smallest cross-entropy."""
    losses = [float(cross_entropy(theta, shapes, x[None], torch.tensor([label]))) for label in range(3)]
    return losses.index(min(losses))


def test_initial_is_what_was_given_and_final_is_the_last_point() -> None:
    config = small_config(inner={"steps": 20}, outer={"every": 3}, record_every=7)
    members = [Member(1, TUNED), Member(2, {"log10_l2": -5.0, "input_noise_std": 0.7})]
    records = run(small_problem(config), config, members)
    for member, result in zip(members, results(records), strict=True):
        assert result.initial == member.hyperparameters
        assert result.final == points(records, result.member)[-1].hyperparameters
        assert result.final != result.initial


def test_time_is_the_packs_over_its_size_and_only_grows() -> None:
    config = small_config(inner={"steps": 20}, record_every=10)
    problem = small_problem(config)
    records = run(problem, config, [Member(seed, TUNED) for seed in range(4)], checkpoint_every=5)
    (seconds,) = {r.train_time_s for r in results(records)}
    spent = [float(c.tensors["seconds"]) for c in checkpoints(records)]
    assert 0 < spent[0] < spent[1] < spent[2] < 4 * seconds
    resumed = run(problem, config, [Member(seed, TUNED) for seed in range(4)], resume=checkpoints(records)[-1])
    assert 4 * results(resumed)[0].train_time_s > spent[2]


def test_a_pack_has_members_and_checkpoints_a_distance() -> None:
    config = small_config()
    problem = small_problem(config)
    with pytest.raises(ConfigError, match=r"members = \[\]: must be one or more"):
        run(problem, config, [])
    for distance in (0, -1):
        with pytest.raises(ConfigError, match=f"checkpoint_every = {distance}: must be at least 1"):
            run(problem, config, [Member(1, TUNED)], checkpoint_every=distance)


def test_a_strong_penalty_is_lowered_and_a_noise_that_hurts_too() -> None:
    """Which way is down is known here: the labels follow from the inputs, and both starts blot that out."""
    config = small_config(
        inner={"steps": 300, "learning_rate": 0.5},
        outer={"estimator": "forward", "every": 5},
        hyperparameters=HyperparameterConfig(
            log10_l2=Range(-6.0, 0.0, learning_rate=0.1), input_noise_std=Range(0.0, 3.0, learning_rate=0.05)
        ),
        record_every=300,
    )
    problem = small_problem(config)
    problem = replace(problem, t1=labelled(problem.t1[0]), t2=labelled(problem.t2[0]))
    start = {"log10_l2": -1.0, "input_noise_std": 2.0}
    (online,), (fixed,) = (results(run(problem, config, [Member(1, start)], online=on)) for on in (True, False))
    assert online.final["log10_l2"] < -1.1
    assert online.final["input_noise_std"] < 1.7
    assert online.t2_loss < fixed.t2_loss


def labelled(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs whose class is the largest of the first three of them."""
    return x, x[:, :3].argmax(1)


def two_members() -> list[str]:
    """The records of a small training, exactly; also run by another process."""
    config = small_config(inner={"steps": 15}, outer={"every": 3, "estimator": "forward", "batch_size": 5})
    return bits(run(small_problem(config), config, [Member(1, TUNED), Member(2**62, TUNED)], checkpoint_every=6))


def test_another_process_gives_the_same_records_bit_for_bit() -> None:
    here = two_members()
    code = (
        "import torch; torch.set_num_threads(1); torch.manual_seed(99)\n"
        "import json; from tests.trainers.test_loop import two_members; print(json.dumps(two_members()))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(there.stdout) == here


def test_one_process_gives_the_same_records_twice_and_another_seed_others() -> None:
    assert two_members() == two_members()
    config = small_config(inner={"steps": 5})
    problem = small_problem(config)
    records = run(problem, config, [Member(1, TUNED), Member(2, TUNED), Member(1, TUNED)])
    first, second, third = (bits(of_member(records, member)) for member in range(3))
    assert first == third != second


@pytest.mark.parametrize("estimator", ["t1t2", "forward"])
def test_the_number_of_threads_is_no_setting(estimator: str) -> None:
    """Wide enough for torch to divide the products between threads."""
    config = small_config(
        (80, 80), inner={"steps": 12, "batch_size": 24}, outer={"estimator": estimator, "every": 3}, record_every=6
    )
    problem: Problem = small_problem(config)
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(run(problem, config, [Member(seed, TUNED) for seed in range(3)]))
    finally:
        torch.set_num_threads(1)
    assert_close(found[0], found[1], rel=1e-9, abs_=1e-12)
