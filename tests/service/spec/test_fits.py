"""Networks that the memory cannot hold are refused before anything is made of them, and others are not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from service import SpecError, StudySpec
from service.spec.fits import check_machine, check_plannable, check_reserved
from service.spec.plan import make_plan
from trainers import memory
from trainers.memory import member_bytes
from trainers.problem import load_problem


def spec(model: dict[str, Any] | None = None, **execution: Any) -> StudySpec:
    return StudySpec.from_dict({"name": "x", "models": [model or {"hidden": [3000, 3000]}], "execution": execution})


def test_a_pack_beyond_the_memory_that_an_actor_reserves_is_refused() -> None:
    least = 4 * 2 * (65 * 3000 + 3001 * 3000 + 3001 * 10) + 4 * 100 * 6000
    for pack, gib in ((1, 1.1 * least / 2**30), (4, 4.1 * least / 2**30), (10**5, None)):
        check_reserved(spec(memory_per_actor_gib=gib, runs_per_actor=pack))
    message = r"models.hidden = \[3000, 3000\]: 4 trainings side by side need at least 0.28 GiB: must need at most exec"
    with pytest.raises(SpecError, match=message):
        check_reserved(spec(memory_per_actor_gib=3.9 * least / 2**30, runs_per_actor=4))


@pytest.mark.parametrize(("actors", "pack"), [(1, 1), (2, 1), (2, 3)])
def test_what_this_machine_cannot_hold_is_refused_by_the_estimate_of_the_actors(
    monkeypatch: pytest.MonkeyPatch, actors: int, pack: int
) -> None:
    small = spec({"hidden": [40, 30]}, actors=actors, runs_per_actor=pack)
    [config] = small.train_configs()
    each = member_bytes(load_problem(config), config, online=True)
    monkeypatch.setattr(memory, "available", lambda device: each * pack * actors)
    check_machine(small)
    monkeypatch.setattr(memory, "available", lambda device: each * pack * actors - actors)
    with pytest.raises(SpecError, match=rf"^models.hidden = \[40, 30\]: .* P = {pack}: .* at most {pack - 1}$"):
        check_machine(small)


def test_a_pack_is_no_larger_than_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    small = spec({"hidden": [40, 30]}, actors=1, runs_per_actor=10**5)
    [config] = small.train_configs()
    monkeypatch.setattr(memory, "available", lambda device: 10 * member_bytes(load_problem(config), config, True))
    check_machine(small)


def test_where_actors_train_on_gpus_or_a_trainer_is_the_users_this_machine_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "available", lambda device: 1)
    check_machine(spec(gpus_per_actor=1))
    own = StudySpec.from_dict({"name": "x", "trainer": "m:f", "execution": {"memory_per_actor_gib": 0.001}})
    check_machine(own)
    check_reserved(own)


def test_a_convolutional_network_that_cannot_be_tried_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda device: 2**34)
    began = time.monotonic()
    with pytest.raises(SpecError, match=r"^models.channels = \[1000000\]: a trial of it needs at least [0-9.]+ GiB"):
        make_plan(spec({"name": "cnn", "channels": [10**6]}))
    assert time.monotonic() - began < 30, "without the check it takes minutes, or all memory"
    check_plannable(spec({"name": "cnn", "channels": [8, 16]}).train_configs()[0])
