"""Each package's README maps what a reader looks for to the file that holds it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["service", "trainers", "analysis"])
def test_every_file_is_in_the_packages_table(package: str) -> None:
    lines = (ROOT / package / "README.md").read_text(encoding="utf-8").splitlines()
    table = "\n".join(line for line in lines if line.startswith("|"))
    files = [path for path in (ROOT / package).rglob("*.py") if not path.name.startswith("__")]
    names = [path.relative_to(ROOT / package).with_suffix("").as_posix() for path in files]

    assert len(names) > 15
    assert [name for name in names if f"`{name}`" not in table and f"`{name}.py`" not in table] == []


def test_what_a_change_touches_and_the_tests_that_follow_it_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## To change X, touch Y")[2].partition("\n## ")[0]
    paths = re.findall(r"`((?:service|trainers|analysis|tests)/[^`]*)`", section)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
