"""How work is done: limits, and that none of it is part of what a study is."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from service import SpecError, StudySpec
from service.spec.execution import ExecutionConfig

OTHERS: dict[str, Any] = {
    "actors": 3, "cpus_per_actor": 0.5, "gpus_per_actor": 0.25, "memory_per_actor_gib": 2.0, "runs_per_actor": 8,
    "checkpoint_every": 100, "loss_retries": 0, "failure_retries": 4, "resource_timeout_s": 60.0, "hung_after_s": 20.0,
    "load_timeout_s": 30.0,
}  # fmt: skip


def test_every_key_can_be_set_and_none_changes_the_hash() -> None:
    assert OTHERS.keys() == {field.name for field in dataclasses.fields(ExecutionConfig)}
    usual, other = StudySpec.from_dict({"name": "a"}), StudySpec.from_dict({"name": "a", "execution": OTHERS})

    assert other.execution == ExecutionConfig(**OTHERS)
    assert other.execution != usual.execution
    assert other.hash == usual.hash


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("actors", 0, "at least 1"),
        ("cpus_per_actor", 0.01, "at least 0.1 and at most 1,024"),
        ("cpus_per_actor", 1e308, "at most 1,024"),
        ("cpus_per_actor", 5e-324, "at least 0.1"),
        ("cpus_per_actor", float("inf"), "finite"),
        ("gpus_per_actor", 1.5, "0, a part of one GPU from 0.01, or a whole number"),
        ("gpus_per_actor", 5e-324, "0, a part of one GPU"),
        ("memory_per_actor_gib", 1e300, "at most 65,536"),
        ("runs_per_actor", 10**6, "at most 100,000"),
        ("actors", 10**9, "at most 100,000"),
        ("loss_retries", 10**12, "at most 1,000,000"),
        ("gpus_per_actor", -0.5, "at least 0"),
        ("memory_per_actor_gib", 0.0, "at least 0.001"),
        ("runs_per_actor", 0, "at least 1"),
        ("checkpoint_every", 0, "at least 1"),
        ("loss_retries", -1, "at least 0"),
        ("hung_after_s", 0.5, "at least 1 and at most"),
        ("failure_retries", -1, "at least 0"),
        ("resource_timeout_s", float("nan"), "finite"),
        ("load_timeout_s", 0.0, "at least 1"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(key: str, value: float, allowed: str) -> None:
    settings: dict[str, Any] = {key: value}
    with pytest.raises(SpecError, match=rf"^execution\.{key} = {re.escape(str(value))}: must be .*{allowed}"):
        ExecutionConfig(**settings)
