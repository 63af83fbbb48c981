"""What is wrong with a spec is one line for each key: where it stands, the value, and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from service import SpecError, StudySpec


def lines(**values: Any) -> list[str]:
    """The lines that a spec with these values is refused with."""
    with pytest.raises(SpecError) as caught:
        StudySpec.from_dict({"name": "a", **values}, where="a.toml")
    return str(caught.value).splitlines()


def test_every_bad_key_has_a_line_of_its_own() -> None:
    found = lines(seed="one", inner={"steps": 1.5, "stepps": 3}, models=[{"hidden": [8, "wide"]}])

    assert [line.partition(" =")[0].partition(": unknown")[0] for line in found] == [
        "a.toml: seed", "a.toml: models.0.hidden.1", "a.toml: inner.steps", "a.toml: inner.stepps"
    ]  # fmt: skip


def test_an_unknown_key_is_told_with_those_that_are_known() -> None:
    (line,) = lines(grid={"point": 3})

    assert line == "a.toml: grid.point: unknown key; allowed: points, replicates"


def test_both_branches_of_a_choice_stand_in_one_line() -> None:
    (line,) = lines(execution={"actors": "many"})

    assert line == "a.toml: execution.actors = \"many\": must be a valid integer or 'auto'"


def test_a_limit_is_told_with_the_whole_key() -> None:
    (line,) = lines(hyperparameters={"log10_l2": {"low": -5.0, "high": -2.0, "learning_rate": -1.0}})

    assert line == "a.toml: hyperparameters.log10_l2.learning_rate = -1.0: must be at least 0 and at most 1e+06"


def test_a_long_value_is_shortened() -> None:
    (line,) = lines(seed="x" * 10_000)

    assert line.startswith('a.toml: seed = "xxx')
    assert len(line) < 200
