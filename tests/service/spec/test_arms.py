"""The table of arms is consistent, and a spec knows exactly the arms of the table."""

from __future__ import annotations

import pytest

from service import SpecError, StudySpec
from service.spec.arms import ARMS, Arm


def test_the_arms_and_their_order_are_pinned() -> None:
    """The order is that of the published tables; a name is part of what the ids of its runs are a hash of."""
    assert list(ARMS) == ["initial", "online", "rerun", "grid"]
    assert all(name == arm.name for name, arm in ARMS.items())


@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
def test_an_arm_follows_one_that_stands_before_it_and_has_runs_at_the_same_places(arm: Arm) -> None:
    if arm.follows:
        leader = ARMS[arm.follows]
        assert list(ARMS).index(leader.name) < list(ARMS).index(arm.name)
        assert leader.on_grid == arm.on_grid


def test_a_spec_read_from_a_file_knows_the_arms_of_the_table() -> None:
    spec = StudySpec.from_dict({"name": "x", "arms": list(ARMS), "grid": {"points": {"log10_l2": 2}}})
    assert spec.arms == tuple(ARMS)
    with pytest.raises(SpecError, match="must be 'initial', 'online', 'rerun' or 'grid'"):
        StudySpec.from_dict({"name": "x", "arms": ["neither"]})


def test_a_spec_made_in_python_does_so_too() -> None:
    with pytest.raises(SpecError, match=r"arms = .*neither.*: must be .*'initial', 'online', 'rerun', 'grid'"):
        StudySpec(name="x", arms=("neither",))
