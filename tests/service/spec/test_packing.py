"""The size of a pack where a spec leaves it to the program."""

from __future__ import annotations

from typing import Any

import pytest

from service import StudySpec
from service.spec.packing import pack_size_of
from service.spec.plan import make_plan


def spec(name: str = "digits", hidden: list[int] | None = None, **execution: Any) -> StudySpec:
    return StudySpec.from_dict(
        {
            "name": "packs",
            "data": {"name": name, "root": "~/data" if name == "mnist" else None},
            "models": [{"hidden": [8]}, {"hidden": hidden or [64]}],
            "execution": {"runs_per_actor": "auto"} | execution,
        }
    )


def test_a_number_is_taken_as_it_is() -> None:
    assert pack_size_of(spec(runs_per_actor=7)) == 7


def test_small_networks_are_packed_on_a_core_and_large_ones_are_not() -> None:
    assert pack_size_of(spec("digits", [64])) == 16
    assert pack_size_of(spec("mnist", [32])) == 2
    assert pack_size_of(spec("mnist", [200, 200])) == 1


def test_a_gpu_takes_many_and_fewer_of_larger_networks() -> None:
    widths = ([200, 200], [4000, 2000, 1000])
    small, large = (pack_size_of(spec("mnist", hidden, gpus_per_actor=1)) for hidden in widths)
    assert small > 100 > large > 1
    assert pack_size_of(spec("mnist", [4000, 2000, 1000], gpus_per_actor=0.25)) < large


@pytest.mark.parametrize("gib", [0.02, 0.05, 0.2])
def test_a_pack_fits_the_memory_that_the_spec_gives_an_actor(gib: float) -> None:
    less, more = (pack_size_of(spec("digits", [64], memory_per_actor_gib=g)) for g in (gib, 64.0))
    assert 1 <= less <= more == 16
    assert pack_size_of(spec("digits", [64], memory_per_actor_gib=0.001)) == 1


def test_of_an_unknown_network_nothing_is_supposed() -> None:
    custom = {"models": [{"name": "tests.trainers.images:build"}], "execution": {"runs_per_actor": "auto"}, "name": "x"}
    assert pack_size_of(StudySpec.from_dict(custom)) == 1
    on_gpu = custom | {"execution": {"runs_per_actor": "auto", "gpus_per_actor": 1}}
    assert pack_size_of(StudySpec.from_dict(on_gpu)) == 32


def test_the_plan_takes_it() -> None:
    assert make_plan(spec()).pack_size == 16
