"""Losses and failures of a run are counted apart, each against its own limit."""

from __future__ import annotations

import pytest

from service.driver.budgets import Failure, RetryBudget


@pytest.mark.parametrize(("failure", "limit"), [(Failure.LOST, 2), (Failure.FAILED, 1)])
def test_a_run_may_fail_as_often_as_its_limit_says(failure: Failure, limit: int) -> None:
    budget = RetryBudget(losses=2, failures=1)
    assert [budget.charge("run", failure) for _ in range(limit + 2)] == [True] * limit + [False] * 2


def test_losses_do_not_use_up_the_budget_of_failures_nor_one_run_that_of_another() -> None:
    budget = RetryBudget(losses=1, failures=1)
    assert budget.charge("run", Failure.LOST)
    assert budget.charge("run", Failure.FAILED)
    assert budget.charge("other", Failure.LOST)
    assert not budget.charge("run", Failure.LOST)


def test_a_run_that_has_ended_is_forgotten() -> None:
    budget = RetryBudget(losses=1, failures=0)
    budget.charge("run", Failure.LOST)
    budget.forget("run")
    budget.forget("one that never was in trouble")
    assert budget.charge("run", Failure.LOST)
