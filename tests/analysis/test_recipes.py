"""The recipes of analysis/README.md run as they stand, in a directory with a study where they expect one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.analysis.synthetic import write_study
from tests.analysis.synthetic_baselines import write_baselines

README = Path(__file__).parents[2] / "analysis" / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES = BLOCK.findall(README.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("recipes")
    study = write_study(directory / "results" / "quickstart", name="quickstart")
    write_baselines(study, repetitions=3, trainings=2)
    return directory


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_recipe(
    number: int, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    exec(compile(RECIPES[number], f"{README}, recipe {number}", "exec"), {"__name__": "recipe"})
    assert "mlp-64" in capsys.readouterr().out


def test_there_are_recipes_for_pandas_duckdb_and_polars() -> None:
    for library in ("import pandas", "import duckdb", "import polars", "load_study("):
        assert any(library in recipe for recipe in RECIPES), library
