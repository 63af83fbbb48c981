"""Records are made by keyword where neighbours share a type; a member is written as users write it."""

from __future__ import annotations

import pytest

from trainers import Checkpoint, Member, Point, Result


def test_points_and_results_take_no_value_by_its_place() -> None:
    """Their losses stand side by side, and two that are swapped would look like any others."""
    with pytest.raises(TypeError, match="positional argument"):
        Point(0, 1, {}, {}, 0.5, 0.25)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional argument"):
        Result(0, "completed", 1, {}, {}, *[0.5] * 6)  # type: ignore[call-arg]


def test_a_member_is_a_seed_and_its_hyperparameters() -> None:
    assert Member(3, {"log10_l2": -4.0}) == Member(seed=3, hyperparameters={"log10_l2": -4.0})
    assert Checkpoint(7, {}) == Checkpoint(step=7, tensors={})


@pytest.mark.parametrize("name", ["t1_loss", "step"])
def test_a_record_does_not_change(name: str) -> None:
    point = Point(member=0, step=1, hyperparameters={}, hypergradient={}, t1_loss=0.5, t2_loss=0.25)
    with pytest.raises(AttributeError):
        setattr(point, name, 2)
