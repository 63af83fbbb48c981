from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
for module in pkgutil.iter_modules(analysis.__path__):
    importlib.import_module("analysis." + module.name)
study = analysis.load_study({str(study_dir)!r})
region = analysis.find_region(study.runs, "mlp-64", study.boxes)
print(len(study.runs), analysis.region_shares(study.runs, region).n)
"""
    assert run(code).split() == ["294", "24"]


def test_loading_imports_neither_scikit_learn_nor_matplotlib(study_dir: Path) -> None:
    code = BLOCK.format(absent=("sklearn", "matplotlib", "statsmodels", "jinja2", "duckdb"))
    assert run(code + f"import analysis; print(len(analysis.load_study({str(study_dir)!r}).runs))").strip() == "294"


def test_every_public_name_is_there() -> None:
    import analysis

    for name in dir(analysis):
        assert getattr(analysis, name) is not None
    # A function with the name of its module would be hidden by the module once that is imported.
    modules = {module.stem for module in (ROOT / "analysis").glob("*.py")}
    assert not modules & set(dir(analysis)) - {"__init__"}
