"""The Neumann series, against its terms with an explicit Hessian."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.trainers.hypergradients.by_hand import ByHand, last_point
from tests.trainers.problems import small_config, small_problem


@pytest.mark.parametrize("look_back", [0, 1, 4])
def test_neumann_equals_the_series_with_an_explicit_hessian(look_back: int) -> None:
    values = {"log10_l2": -1.0, "input_noise_std": 0.4}
    config = small_config(outer={"estimator": "neumann", "look_back": look_back})
    problem = small_problem(config)
    by_hand = ByHand(config, problem, values)
    v = by_hand.v(by_hand.theta_next)
    once = torch.eye(len(v), dtype=torch.float64) - by_hand.rate * by_hand.hessian()
    series = sum(torch.linalg.matrix_power(once, i) for i in range(look_back + 1)) @ v
    found = last_point(problem, config, values, online=True).hypergradient
    assert found == pytest.approx(by_hand.closed_form(series), rel=1e-9)
    if look_back == 0:
        exact = replace(config, outer=replace(config.outer, estimator="t1t2"))
        assert found == pytest.approx(last_point(problem, exact, values, online=True).hypergradient, rel=1e-12)
