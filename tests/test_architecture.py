"""No file imports itself by way of others, and the drawing of the architecture is that of today's imports.

Which room may import which is said by the contracts in pyproject.toml, which ``make lint`` checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

from tests import architecture

PACKAGES = ("service", "trainers", "analysis")

Imports = Mapping[str, Set[str]]


@pytest.fixture(scope="module")
def imports() -> Imports:
    """Who imports whom directly; imports inside functions and for type checkers alone count too."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def circle_in(imports: Imports) -> list[str]:
    """The modules of one circle, the first again at the end; empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_no_module_imports_itself_by_way_of_others(imports: Imports) -> None:
    assert circle_in(imports) == []


def test_a_circle_would_be_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert sorted(circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}})[1:]) == ["a", "b", "c"]


def test_the_imports_are_those_of_all_three_packages(imports: Imports) -> None:
    assert {module.partition(".")[0] for module in imports} == set(PACKAGES)
    assert "trainers.config" in imports["trainers.hyperparameters"]
    assert "service.client.study_client" in imports["service"]  # for type checkers alone


def test_the_picture_is_drawn_from_todays_imports() -> None:
    drawn = architecture.PICTURE.read_text(encoding="utf-8")
    assert drawn == architecture.picture(), "the imports have changed: run `make architecture` and look at the picture"


def test_the_picture_shows_every_room_and_leaves_out_arrows_that_others_imply() -> None:
    drawn = architecture.picture()
    for package in PACKAGES:
        for floor in architecture.floors_of(package):
            assert all(f">{room}</text>" in drawn for room in floor if (architecture.ROOT / package / room).is_dir())
    assert architecture.without_implied({("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}) == {
        ("a", "b"),
        ("b", "c"),
        ("a", "d"),
    }
