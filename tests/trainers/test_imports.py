"""What the package needs, and what it must never need: each in an interpreter of its own."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ABSENT = """
import sys

class Absent:
    names = {"ray", "pandas", "pyarrow", "matplotlib", "pydantic", "typer", "rich", "duckdb", "service", "analysis"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}, as on a machine without it", name=name)

sys.meta_path.insert(0, Absent())
"""

TRAINS = (
    ABSENT
    + """
import json
import pkgutil
from trainers import Member, Result, TrainConfig, train, load_problem
from trainers.config import DataConfig, InnerConfig, ModelConfig

for name in [module.name for module in pkgutil.walk_packages(__import__("trainers").__path__, "trainers.")]:
    __import__(name)
config = TrainConfig(data=DataConfig("digits", t1_size=300, t2_size=100, test_size=100),
                     model=ModelConfig(hidden=(16,)), inner=InnerConfig(steps=150, batch_size=50, learning_rate=0.5))
start = {"log10_l2": -4.0, "input_noise_std": 0.3}
records = list(train(load_problem(config), config, [Member(1, start)], online=True))
result = records[-1]
print(json.dumps({"status": result.status, "first": records[0].t2_loss, "last": result.t2_loss,
                  "moved": result.final != start,
                  "loaded": sorted(Absent.names & {name.partition(".")[0] for name in sys.modules})}))
"""
)


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_it_trains_on_real_data_where_the_service_and_the_analysis_and_their_needs_are_absent() -> None:
    found = json.loads(python(TRAINS))
    assert found["status"] == "completed"
    assert found["last"] < 0.5 * found["first"]
    assert found["moved"]
    assert found["loaded"] == []


def test_absent_packages_would_be_noticed() -> None:
    for name in ("ray", "pandas.core", "service"):
        with pytest.raises(AssertionError, match=f"No module named '{name.partition('.')[0]}"):
            python(ABSENT + f"import {name}")


def test_settings_are_read_without_torch() -> None:
    loaded = python(
        "import sys, trainers, trainers.config; trainers.TrainConfig; trainers.ConfigError\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    assert loaded == "False False\n"


def test_every_public_name_is_there_for_python_and_for_type_checkers_and_no_other() -> None:
    import trainers

    source = ast.parse(Path(trainers.__file__).read_text())
    imports = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom)]
    typed = {alias.asname: node.module for node in imports for alias in node.names if alias.asname}
    assert typed == trainers._HOME_OF
    for name in trainers.__all__:
        assert getattr(trainers, name).__module__.startswith("trainers.")
    with pytest.raises(AttributeError, match="module 'trainers' has no attribute 'Trainer'"):
        trainers.Trainer  # type: ignore[attr-defined]  # noqa: B018 - the access is what is tested
