"""The names that ``import service`` gives."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import service


def test_type_checkers_and_python_find_the_same_names() -> None:
    tree = ast.parse(Path(service.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.asname: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == {name: (home, name) for name, home in service._HOME_OF.items()}


@pytest.mark.parametrize("name", service.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(service, name).__name__ == name


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'service' has no attribute 'nothing'"):
        _ = service.nothing  # type: ignore[attr-defined]
