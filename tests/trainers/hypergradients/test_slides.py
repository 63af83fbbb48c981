"""The slides' formulas, and what they lack of a derivative."""

from __future__ import annotations

import pytest

from tests.trainers.hypergradients.by_hand import ByHand, last_point
from tests.trainers.problems import LN10, small_config, small_problem
from trainers import Member, Point, train


def test_the_slides_lack_the_factor_of_their_own_penalty() -> None:
    values = {"log10_l2": -3.0, "input_noise_std": 0.4}
    config = small_config(outer={"estimator": "seed_literal"})
    problem = small_problem(config)
    by_hand = ByHand(config, problem, values)
    v = by_hand.v(by_hand.theta_next)
    found = last_point(problem, config, values, online=True).hypergradient["log10_l2"]
    assert found == pytest.approx(float(-by_hand.rate * (v * by_hand.theta.detach()).sum()), rel=1e-9)
    assert found == pytest.approx(by_hand.closed_form(v)["log10_l2"] / (LN10 * 1e-3), rel=1e-9)


def test_the_slides_have_no_direction_for_the_noise() -> None:
    """The mean of its fresh draws is 0: about as many positive as negative, over 400 members."""
    config = small_config(outer={"estimator": "seed_literal"})
    problem = small_problem(config)
    members = [Member(seed, {"log10_l2": -3.0, "input_noise_std": 0.4}) for seed in range(400)]
    last = [r for r in train(problem, config, members, online=True) if isinstance(r, Point) and r.step == 1]
    positive = sum(point.hypergradient["input_noise_std"] > 0 for point in last) / len(last)
    assert 0.4 < positive < 0.6  # five standard deviations of a fair coin: 0.375 to 0.625
