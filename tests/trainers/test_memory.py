"""A pack beyond the memory is refused before it is trained; what fits is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.images import image_config, image_split
from tests.trainers.problems import small_config, small_problem
from tests.trainers.runs import TUNED, results, run
from trainers import ConfigError, Member, memory
from trainers.config import ModelConfig
from trainers.hypergradients import ESTIMATORS
from trainers.memory import available, member_bytes
from trainers.problem import build_problem
from trainers.state import start

CPU = torch.device("cpu")


def test_a_pack_beyond_the_memory_is_refused_with_the_largest_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(inner={"steps": 2})
    problem = small_problem(config)
    each = member_bytes(problem, config, True)
    monkeypatch.setattr(memory, "available", lambda device: 3 * each + each // 2)
    members = [Member(seed, TUNED) for seed in range(4)]
    assert len(results(run(problem, config, members[:3]))) == 3
    with pytest.raises(
        ConfigError,
        match=r"P = 4: needs about 0.00 GiB, and 0.00 GiB are available on cpu: P must be "
        "at most 3",
    ):
        run(problem, config, members)
    assert len(results(run(problem, config, members, online=False))) == 4  # which needs less


def test_a_pack_is_refused_before_anything_is_drawn_for_it() -> None:
    """A thousand million members would take days to draw."""

    class Endless(list[Member]):
        def __len__(self) -> int:
            return 10**9

    config = small_config()
    with pytest.raises(ConfigError, match=r"P = 1000000000: needs about [0-9.]{4,} GiB, and [0-9.]+ GiB are available"):
        run(small_problem(config), config, Endless([Member(1, TUNED)]))


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        ({"optimiser": "momentum"}, {}),
        ({"optimiser": "adam"}, {}),
        ({}, {"estimator": "neumann"}),
        ({}, {"estimator": "forward"}),
        ({}, {"estimator": "forward", "averaging": 0.9}),
        ({"batch_size": 24}, {}),
        ({}, {"estimator": "forward", "antithetic": True}),
    ],
)
def test_what_is_kept_besides_is_counted(inner: dict[str, Any], outer: dict[str, Any]) -> None:
    plain = small_config()
    more = replace(plain, inner=replace(plain.inner, **inner), outer=replace(plain.outer, **outer))
    least, found = (member_bytes(small_problem(config), config, True) for config in (plain, more))
    assert found > least
    assert member_bytes(small_problem(plain), plain, False) < least


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("online", [False, True])
def test_what_a_training_keeps_between_its_steps_is_within_the_estimate(
    estimator: str, optimiser: str, online: bool
) -> None:
    outer = {"estimator": estimator, "averaging": 0.9}
    config = small_config((40, 40), inner={"optimiser": optimiser}, outer=outer)
    problem = small_problem(config)
    state = start(problem, config, [Member(seed, TUNED) for seed in range(3)], online)
    kept = sum(tensor.nbytes for tensor in state.tensors().values()) / 3
    assert kept < member_bytes(problem, config, online)


def test_a_module_is_estimated_from_the_outputs_of_its_layers() -> None:
    models = [ModelConfig("cnn", channels=channels, batch_norm=True) for channels in ((2,), (64,))]
    problems = [(build_problem(image_config(model), image_split()), image_config(model)) for model in models]
    small, large = (member_bytes(problem, config, True) for problem, config in problems)
    assert large > 10 * small


def test_what_is_available_here_is_less_than_all_and_more_than_nothing() -> None:
    free = available(CPU)
    assert free is not None
    assert 2**20 < free < 2**50


def group(tmp_path: Path, limit: str, used: int = 600, stat: str = "anon 500\ninactive_file 100\n") -> tuple[str, ...]:
    for name, content in (("max", f"{limit}\n"), ("current", f"{used}\n"), ("stat", stat)):
        (tmp_path / name).write_text(content)
    return tuple(str(tmp_path / name) for name in ("max", "current", "stat"))


@pytest.mark.parametrize(("limit", "left"), [("1000", 500), ("600", 100), ("100", 0)])
def test_the_limit_of_a_container_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, left: int
) -> None:
    monkeypatch.setattr(memory, "CGROUPS", (group(tmp_path, limit), ("/no/such", "/no/such", "/no/such")))
    assert available(CPU) == left


def test_a_container_without_a_limit_leaves_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUPS", (group(tmp_path, "max"),))
    assert available(CPU) == pytest.approx(memory._of_the_machine(), rel=0.5)
