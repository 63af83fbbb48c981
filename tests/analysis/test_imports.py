from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import analysis

ROOT = Path(__file__).parents[2]
BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(name + " is not on this machine", name=name)
sys.meta_path.insert(0, Absent())
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_study_is_loaded_and_analysed_where_torch_and_ray_are_absent(study_dir: Path) -> None:
    code = BLOCK.format(absent=("torch", "ray", "service", "trainers", "pydantic", "typer", "rich"))
    code += f"""
import pkgutil, importlib, analysis
for module in pkgutil.walk_packages(analysis.__path__, "analysis."):
    importlib.import_module(module.name)
study = analysis.load_study({str(study_dir)!r})
region = analysis.find_region(study.runs, "mlp-64", study.boxes)
print(len(study.runs), analysis.region_shares(study.runs, region).n)
"""
    assert run(code).split() == ["294", "24"]


def test_loading_imports_neither_scikit_learn_nor_matplotlib(study_dir: Path) -> None:
    code = BLOCK.format(absent=("sklearn", "matplotlib", "statsmodels", "jinja2", "duckdb"))
    assert run(code + f"import analysis; print(len(analysis.load_study({str(study_dir)!r}).runs))").strip() == "294"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = BLOCK.format(absent=("sklearn", "matplotlib", "pandas", "numpy", "pyarrow", "scipy"))
    assert run(code + "import analysis; print(len(dir(analysis)))").strip() == str(len(dir(analysis)))


def test_what_a_type_checker_reads_is_what_is_imported() -> None:
    """The names under ``TYPE_CHECKING``, the lazy table and ``__all__`` agree, name by name and module by module."""
    tree = ast.parse((ROOT / "analysis" / "__init__.py").read_text(encoding="utf-8"))
    [guarded] = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.name: node.module for node in imports for alias in node.names}
    assert len(imports) == len(guarded.body)
    assert typed == {name: f"analysis.{module}" for name, module in analysis._MODULE_OF.items()}
    assert sorted(typed) == sorted(analysis.__all__) == dir(analysis)
    for name, module in typed.items():
        assert getattr(analysis, name) is getattr(importlib.import_module(str(module)), name)


def test_no_public_name_is_hidden_by_a_module() -> None:
    # A function with the name of its module would be hidden by the module once that is imported.
    modules = {module.stem for module in (ROOT / "analysis").glob("*.py")}
    assert not modules & set(dir(analysis)) - {"__init__"}
