"""The notebooks of ``deploy/notebooks`` run from a fresh kernel, and say what they are committed with."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from tests.notebooks import METADATA, NOTEBOOKS, ROOT, executed, texts

MOST_BYTES = 300_000
by_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def committed(path: Path) -> NotebookNode:
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_there_are_notebooks_and_the_readme_has_them_all() -> None:
    readme = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) > 1
    assert [path.name for path in NOTEBOOKS if f"notebooks/{path.name}" not in readme] == []


@by_notebook
def test_it_is_committed_as_executed_from_top_to_bottom(path: Path) -> None:
    cells = [cell for cell in committed(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"stream", "execute_result", "display_data"}, "an error is no output to commit"


@by_notebook
def test_it_is_small_and_has_nothing_of_the_machine_that_executed_it(path: Path) -> None:
    notebook = committed(path)
    assert path.stat().st_size < MOST_BYTES
    assert notebook.metadata == METADATA
    assert all(cell.metadata == {} for cell in notebook.cells)
    text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
    assert re.findall(r"/(?:home|tmp|root|Users|work|usr|opt)/|\.venv|site-packages", text) == []
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]


@by_notebook
def test_it_shows_pictures_and_a_study(path: Path) -> None:
    outputs = [output for cell in committed(path).cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") >= 2
    assert any("<svg" in output.data["text/html"] for output in outputs if "text/html" in output.get("data", {}))


@pytest.mark.slow
@pytest.mark.timeout(900)
@by_notebook
def test_it_runs_and_its_texts_are_those_it_is_committed_with(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    assert texts(executed(path, tmp_path)) == texts(committed(path)), "run `make notebooks`, and look at what changed"
    assert path.read_bytes() == before


def written(path: Path, *code: str) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in code]), path)
    return path


def test_the_kernel_is_this_interpreter_with_this_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another kernel is installed as ``python3``, as Jupyter has one for each user."""
    other = tmp_path / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "other", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    code = "import sys, analysis; sys.executable, analysis.__file__"
    [[(shown, _)]] = texts(executed(written(tmp_path / "who.ipynb", code), tmp_path))
    assert shown == repr((sys.executable, str(ROOT / "analysis" / "__init__.py")))


def test_a_cell_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        executed(written(tmp_path / "broken.ipynb", "1", "1 / 0"), tmp_path)
