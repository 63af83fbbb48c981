"""Packs: a member equals itself alone, whatever stands beside it, and one that diverges disturbs no other."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.problems import ALL_KINDS, small_config, small_problem
from tests.trainers.runs import after, assert_close, bits, checkpoints, of_member, points, results, run
from trainers import Member, Problem, TrainConfig
from trainers.config import HyperparameterConfig, Range
from trainers.records import Record

WIDE = HyperparameterConfig(log10_l2=Range(-6.0, 40.0), clamp=False)
STARTS = [
    {"log10_l2": -2.0, "input_noise_std": 0.1},
    {"log10_l2": -5.0, "input_noise_std": 0.6},
    {"log10_l2": -3.0, "input_noise_std": 0.0},
    {"log10_l2": -4.0, "input_noise_std": 0.8},
]
MEMBERS = [Member(seed, start) for seed, start in zip((11, 12, 13, 11), STARTS, strict=True)]
BAD = Member(12, {"log10_l2": 9.0, "input_noise_std": 0.6})  # θ grows 10⁸ times with every step


def config_of(estimator: str, optimiser: str = "sgd", steps: int = 200, record_every: int = 50) -> TrainConfig:
    inner = {"steps": steps, "optimiser": optimiser, "learning_rate": 0.02 if optimiser == "adam" else 0.1}
    outer = {"estimator": estimator, "every": 10, "batch_size": 5}
    return small_config(inner=inner, outer=outer, record_every=record_every)


@pytest.mark.parametrize(
    ("estimator", "optimiser"),
    [
        ("t1t2", "sgd"),
        ("t1t2", "adam"),
        ("forward", "sgd"),
        ("forward", "momentum"),
        ("forward", "adam"),
        ("t1t2_at_theta", "momentum"),
        ("seed_literal", "sgd"),
        ("neumann", "adam"),
    ],
)
def test_a_member_equals_itself_alone_after_200_steps(estimator: str, optimiser: str) -> None:
    config = config_of(estimator, optimiser)
    problem = small_problem(config)
    packed = run(problem, config, MEMBERS)
    alone = run(problem, config, [MEMBERS[1]])
    assert_close(of_member(packed, 1), alone, rel=1e-9, abs_=1e-9)
    assert results(alone)[0].final != results(alone)[0].initial


@pytest.mark.parametrize("estimator", ["t1t2", "forward"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_with_every_kind_of_hyperparameter_too(estimator: str, activation: str) -> None:
    outer = {"estimator": estimator, "every": 10, "batch_size": 5, "tangent_batch": 4 if estimator == "forward" else 0}
    inner = {"steps": 60, "learning_rate": 0.1}
    config = small_config(activation=activation, inner=inner, outer=outer, hyperparameters=ALL_KINDS, record_every=30)
    problem = small_problem(config)
    low, high = (
        {
            name: box.low + part * (box.high - box.low)
            for name, box in zip(problem.layout.names, problem.layout.ranges, strict=True)
        }
        for part in (0.2, 0.7)
    )
    members = [Member(1, low), Member(2, high), Member(1, high)]
    packed = run(problem, config, members)
    for position, member in enumerate(members[:2]):
        assert_close(of_member(packed, position), run(problem, config, [member]), rel=1e-9, abs_=1e-9)


@given(order=st.permutations(range(4)), size=st.integers(1, 4), estimator=st.sampled_from(["t1t2", "forward"]))
@settings(max_examples=8)
def test_neither_order_nor_company_matters(order: list[int], size: int, estimator: str) -> None:
    config = config_of(estimator, steps=30, record_every=10)
    problem = small_problem(config)
    whole = run(problem, config, MEMBERS)
    part = run(problem, config, [MEMBERS[i] for i in order[:size]])
    for position, original in enumerate(order[:size]):
        assert_close(of_member(part, position), of_member(whole, original), rel=1e-9, abs_=1e-9)


@pytest.mark.parametrize("estimator", ["t1t2", "forward"])
def test_float32_over_a_short_training(estimator: str) -> None:
    """A sum in another order differs by some 2⁻²⁴ = 6e-8 relative to its terms, and 20 steps of 0.1 hardly magnify
    it: 1e-5 leaves room for that, and is far below what other hyperparameters of the same seed make (4e-3).
    """
    config = replace(config_of(estimator, steps=20, record_every=20), dtype="float32")
    problem = small_problem(config)
    packed = run(problem, config, MEMBERS)
    for position, member in enumerate(MEMBERS):
        assert_close(of_member(packed, position), run(problem, config, [member]), rel=1e-5, abs_=1e-6)
    first, last = results(packed)[0], results(packed)[3]  # of one seed, with other hyperparameters
    assert abs(first.t2_loss - last.t2_loss) > 1e-3


def diverging(estimator: str, steps: int = 200, record_every: int = 20) -> tuple[Problem, TrainConfig]:
    config = replace(config_of(estimator, steps=steps, record_every=record_every), hyperparameters=WIDE)
    if estimator != "forward":
        config = replace(config, outer=replace(config.outer, warmup_steps=50))
    return small_problem(config), config


@pytest.mark.parametrize("estimator", ["t1t2", "neumann", "forward"])
@pytest.mark.parametrize(
    "bad",
    [
        BAD,
        Member(12, {"log10_l2": 40.0, "input_noise_std": 0.6}),
        Member(12, {"log10_l2": -3.0, "input_noise_std": 1e308}),
    ],
)
def test_a_member_that_diverges_changes_no_bit_of_the_others(estimator: str, bad: Member) -> None:
    problem, config = diverging(estimator)
    sound = run(problem, config, MEMBERS[:3])
    broken = run(problem, config, [MEMBERS[0], bad, MEMBERS[2]])
    assert [r.status for r in results(sound)] == ["completed"] * 3
    assert [r.status for r in results(broken)] == ["completed", "diverged", "completed"]
    for position in (0, 2):
        assert bits(of_member(broken, position)) == bits(of_member(sound, position))


def ended(records: list[Record], member: int) -> None:
    """What the records of a diverged member must say."""
    path, result = points(records, member), results(records)[member]
    assert result.status == "diverged"
    assert all(
        math.isnan(getattr(result, name)) for name in ("t1_loss", "t2_loss", "t2_error", "test_loss", "test_error")
    )
    assert result.steps == path[-1].step
    assert not (math.isfinite(path[-1].t1_loss) and math.isfinite(path[-1].t2_loss))
    assert all(math.isfinite(point.t2_loss) for point in path[:-1])
    assert all(math.isfinite(value) for value in result.final.values())


def test_a_diverged_member_ends_where_it_is_first_seen_and_no_point_follows() -> None:
    problem, config = diverging("forward", record_every=10)
    records = run(problem, config, [MEMBERS[0], BAD, MEMBERS[2]])
    ended(records, 1)
    result = results(records)[1]
    assert 0 < result.steps < 200
    assert result.steps % 10 == 0
    last_finite = [p for p in points(records, 1) if math.isfinite(p.t2_loss)][-1]
    assert result.final == last_finite.hyperparameters
    assert result.initial == BAD.hyperparameters
    assert [p.step for p in points(records, 0)] == list(range(0, 201, 10))


@pytest.mark.parametrize("online", [False, True])
def test_a_pack_ends_early_when_all_its_members_have_diverged(online: bool) -> None:
    problem, config = diverging("forward", steps=10**6, record_every=10)
    worse = Member(5, {"log10_l2": 9.5, "input_noise_std": 0.2})
    records = run(problem, config, [BAD, worse], online)
    for member in (0, 1):
        ended(records, member)
    assert max(r.steps for r in results(records)) == max(p.step for p in points(records)) < 1000


def test_a_pack_goes_on_after_a_checkpoint_with_a_diverged_member() -> None:
    problem, config = diverging("forward")
    whole = run(problem, config, [MEMBERS[0], BAD], checkpoint_every=65)
    saved = checkpoints(whole)[1]
    assert saved.step > results(whole)[1].steps
    rest = run(problem, config, [MEMBERS[0], BAD], True, 65, saved)
    assert bits(rest) == bits(after(whole, saved.step))
    assert points(rest, 1) == []


@pytest.mark.parametrize("estimator", ["t1t2", "forward"])
def test_a_learning_rate_beyond_reason_ends_all_members(estimator: str) -> None:
    config = config_of(estimator, steps=100, record_every=10)
    config = replace(config, inner=replace(config.inner, learning_rate=1e6))  # θ grows 10⁴ times
    records = run(small_problem(config), config, [Member(seed, STARTS[0]) for seed in (11, 12)])
    for member in (0, 1):
        ended(records, member)
    assert max(p.step for p in points(records)) < 100
