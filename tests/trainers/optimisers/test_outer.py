"""The outer steps: when they come, that they are torch.optim's, and where they may lead."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.problems import small_config, small_problem
from tests.trainers.runs import TUNED, points, results, run
from trainers import Member, Point, TrainConfig
from trainers.config import HyperparameterConfig, Range
from trainers.hyperparameters import lay_out
from trainers.networks.perceptron.network import parameters_of
from trainers.optimisers.outer import boxes, initial_state, step

FREE = HyperparameterConfig(
    log10_l2=Range(-5.5, -2.5, learning_rate=0.03), input_noise_std=Range(0.0, 0.8, learning_rate=0.01), clamp=False
)


def trajectory(config: TrainConfig, values: dict[str, float] = TUNED, online: bool = True) -> list[Point]:
    return points(run(small_problem(config), config, [Member(7, values)], online=online))


def same(one: dict[str, float], other: dict[str, float]) -> bool:
    return repr(one) == repr(other)  # NaN like NaN, and every bit


@pytest.mark.parametrize("every", [1, 3, 7])
@pytest.mark.parametrize("warmup", [0, 6, 7])
@pytest.mark.parametrize("estimator", ["t1t2", "forward"])
def test_outer_steps_come_after_every_k_inner_steps_past_the_warm_up(every: int, warmup: int, estimator: str) -> None:
    config = small_config(inner={"steps": 22}, outer={"every": every, "warmup_steps": warmup, "estimator": estimator})
    path = trajectory(config)
    moved = [b.step for a, b in pairwise(path) if not same(a.hyperparameters, b.hyperparameters)]
    renewed = [b.step for a, b in pairwise(path) if not same(a.hypergradient, b.hypergradient)]
    assert moved == renewed == [s for s in range(1, 23) if s % every == 0 and s > warmup]
    for point in path:
        assert all(math.isnan(value) for value in point.hypergradient.values()) == (point.step < moved[0])


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 8])
def test_outer_steps_are_torchs_with_a_rate_for_each_hyperparameter(optimiser: str, schedule: str, warmup: int) -> None:
    outer = {
        "every": 4,
        "optimiser": optimiser,
        "schedule": schedule,
        "anneal_fraction": 0.5,
        "warmup_steps": warmup,
        "betas": (0.8, 0.95),
        "epsilon": 1e-6,
    }
    config = small_config(inner={"steps": 40}, outer=outer, hyperparameters=FREE, record_every=4)
    path = trajectory(config)
    theirs = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in TUNED.items()}
    rates = {"log10_l2": 0.03, "input_noise_std": 0.01}
    groups = [{"params": [theirs[name]], "lr": rate} for name, rate in rates.items()]
    reference = torch.optim.SGD(groups) if optimiser == "sgd" else torch.optim.Adam(groups, betas=(0.8, 0.95), eps=1e-6)
    for point in path:
        if point.step > warmup:
            part = max(0.0, (point.step - 20) / 20)
            factors = {"constant": 1.0, "linear": 1 - part, "cosine": math.cos(math.pi / 2 * part) ** 2}
            for group, rate in zip(reference.param_groups, rates.values(), strict=True):
                group["lr"] = rate * factors[schedule]
            for name, value in theirs.items():
                value.grad = torch.tensor(point.hypergradient[name], dtype=torch.float64)
            reference.step()
        assert point.hyperparameters == pytest.approx({k: v.item() for k, v in theirs.items()}, rel=1e-12)
    assert not same(path[-1].hyperparameters, TUNED)


def one_step(box: Range, name: str, value: float, hypergradient: float, clamp: bool) -> float:
    """One outer step of SGD from ``value``."""
    kinds: dict[str, Any] = {"log10_l2": None, "input_noise_std": None} | {name: box}
    layout = lay_out(HyperparameterConfig(**kinds), parameters_of(4, (3,), 2), 1)
    h = torch.tensor([[value]], dtype=torch.float64)
    config = replace(small_config().outer, optimiser="sgd")
    slope = torch.tensor([[hypergradient]], dtype=torch.float64)
    limits = boxes(layout, clamp, h)
    step(config, limits, h, hypergradient=slope, state=initial_state(h), count=1, progress=(1, 10))
    return float(h)


@given(value=st.floats(-5.5, -2.5), slope=st.floats(-100, 100))
def test_the_clamp_keeps_a_penalty_in_its_box_and_without_it_nothing_does(value: float, slope: float) -> None:
    box = Range(-5.5, -2.5, learning_rate=0.1)
    free = value - 0.1 * slope
    assert one_step(box, "log10_l2", value, slope, clamp=True) == min(max(free, -5.5), -2.5)
    assert one_step(box, "log10_l2", value, slope, clamp=False) == free


@pytest.mark.parametrize("name", ["input_noise_std", "hidden_noise_std", "label_smoothing"])
@given(value=st.floats(0.1, 0.8), slope=st.floats(-100, 100))
def test_without_the_clamp_a_noise_or_a_smoothing_stays_above_its_low(name: str, value: float, slope: float) -> None:
    box = Range(0.1, 0.8, learning_rate=0.1)
    free = value - 0.1 * slope
    assert one_step(box, name, value, slope, clamp=True) == min(max(free, 0.1), 0.8)
    assert one_step(box, name, value, slope, clamp=False) == max(free, 0.1)


@given(value=st.floats(0.0, 0.8), slope=st.floats(-20, 20))
def test_in_the_variance_coordinate_the_step_is_along_the_derivative_by_the_variance(
    value: float, slope: float
) -> None:
    """dC2/dn0² = dC2/dn0 / (2 n0), with n0 no smaller there than a sixteenth of the box's top."""
    box = Range(0.0, 4.0, learning_rate=0.1, coordinate="variance")
    found = one_step(box, "input_noise_std", value, slope, clamp=True)
    wanted = max(value**2 - 0.1 * slope / (2 * max(value, 0.25)), 0.0)
    assert found**2 == pytest.approx(min(wanted, 16.0), rel=1e-12, abs=1e-15)


@given(value=st.floats(0.0, 0.8), slope=st.floats(-20, 20))
def test_in_the_log_variance_coordinate_the_step_is_along_the_derivative_by_the_logarithm(
    value: float, slope: float
) -> None:
    """dC2/dlog(n0² + κ) = dC2/dn0 (n0² + κ) / (2 n0), κ = (high/2)², n0 a sixteenth of the top at least."""
    box = Range(0.0, 4.0, learning_rate=0.1, coordinate="log_variance")
    found = one_step(box, "input_noise_std", value, slope, clamp=True)
    c = math.log(value**2 + 4.0) - 0.1 * slope * (value**2 + 4.0) / (2 * max(value, 0.25))
    wanted = max(math.exp(c) - 4.0, 0.0)
    assert found**2 == pytest.approx(min(wanted, 16.0), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("coordinate", ["value", "variance", "log_variance"])
@given(value=st.floats(1e-9, 0.8))
def test_a_step_of_0_leaves_every_value_as_it_is_to_the_last_bit(
    coordinate: Literal["value", "variance", "log_variance"], value: float
) -> None:
    box = Range(0.0, 0.8, learning_rate=0.1, coordinate=coordinate)
    assert one_step(box, "input_noise_std", value, 0.0, clamp=True) == value


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_training_clamps_at_the_edges_of_the_box_exactly(optimiser: str) -> None:
    tight = HyperparameterConfig(
        log10_l2=Range(-3.05, -2.95, learning_rate=50.0), input_noise_std=Range(0.28, 0.32, learning_rate=50.0)
    )
    config = small_config(inner={"steps": 30}, outer={"optimiser": optimiser}, hyperparameters=tight)
    path = trajectory(config)
    for name, low, high in (("log10_l2", -3.05, -2.95), ("input_noise_std", 0.28, 0.32)):
        seen = {point.hyperparameters[name] for point in path}
        assert min(seen) >= low
        assert max(seen) <= high
        assert seen & {low, high}
    loose = small_config(
        inner={"steps": 30}, outer={"optimiser": optimiser}, hyperparameters=replace(tight, clamp=False)
    )
    assert any(not -3.05 <= point.hyperparameters["log10_l2"] <= -2.95 for point in trajectory(loose))


def test_a_start_outside_the_box_is_kept_by_a_fixed_training_and_clamped_by_the_first_outer_step() -> None:
    config = small_config(inner={"steps": 4}, outer={"every": 2})
    outside = {"log10_l2": -1.0, "input_noise_std": 1.5}
    fixed = trajectory(config, outside, online=False)
    assert all(same(point.hyperparameters, outside) for point in fixed)
    path = trajectory(config, outside)
    assert same(path[1].hyperparameters, outside)
    assert path[2].hyperparameters == {"log10_l2": -2.5, "input_noise_std": 0.8}


@given(
    seed=st.integers(0, 200), estimator=st.sampled_from(["t1t2", "t1t2_at_theta", "t1t2_lagged", "neumann", "forward"])
)
@settings(max_examples=10)
def test_whatever_the_seed_the_values_stay_in_the_box(seed: int, estimator: str) -> None:
    config = small_config(
        inner={"steps": 12},
        outer={"estimator": estimator, "every": 2},
        hyperparameters=HyperparameterConfig(log10_l2=Range(-5.5, -2.5, learning_rate=2.0, scope="layer")),
        record_every=4,
    )
    problem = small_problem(config, seed)
    start = {name: -2.6 if name.startswith("log10") else 0.01 for name in problem.layout.names}
    records = run(problem, config, [Member(seed, start), Member(seed + 1, start)])
    for point in points(records):
        for name, box in zip(problem.layout.names, problem.layout.ranges, strict=True):
            assert box.low <= point.hyperparameters[name] <= box.high
    assert all(r.final != r.initial for r in results(records))
