"""``make gpu`` where something is missing, a GPU, Ray or a package: it needs little, and tells what it could not do."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from service import StudySpec
from service.driver.run import run_study
from service.executors.serial import SerialExecutor
from tests.gpu import __main__ as gpu
from tests.gpu import study

# As on a machine that has torch, numpy, safetensors and pytest, and nothing else of what this project installs.
ABSENT = """
import sys

ABSENT = {"ray", "pandas", "pyarrow", "pydantic", "hypothesis", "pytest_timeout", "mlxtend", "sklearn", "scipy",
          "duckdb", "matplotlib", "typer", "rich", "higher", "torchopt"}

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
"""
OPTIONS = argparse.Namespace(steps=10, repeats=1, largest=2)
DEVICE = {"name": "a GPU"}


@pytest.fixture
def bare(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python in such an environment, without a GPU."""
    (tmp_path / "sitecustomize.py").write_text(ABSENT)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{gpu.ROOT}",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=gpu.ROOT, env=environment, capture_output=True, text=True, check=False)

    return run


Bare = Callable[..., subprocess.CompletedProcess[str]]


def test_the_bare_environment_lacks_what_it_should(bare: Bare) -> None:
    assert "No module named 'ray'" in bare("-c", "import ray").stderr
    assert bare("-c", "import importlib.util; print(importlib.util.find_spec('pyarrow'))").stdout == "None\n"


def test_the_tests_for_a_gpu_need_neither_ray_nor_pandas_and_skip_with_the_reason(bare: Bare, tmp_path: Path) -> None:
    out = tmp_path / "junit.xml"
    code = (
        "import json, sys; from pathlib import Path; from tests.gpu import __main__ as gpu;"
        "print(json.dumps(gpu.tests_command(None, Path(sys.argv[1]))))"
    )
    command = json.loads(bare("-c", code, str(out)).stdout)
    ran = bare(*command)
    assert ran.returncode == 0, ran.stdout
    found = gpu.read_tests(out.read_text())
    assert (found["passed"], found["failed"]) == (0, {})
    assert len(found["skipped"]) > 60
    assert any("test_network" in name for name in found["skipped"])
    assert all("torch sees no CUDA device" in reason for (reason,) in found["skipped"].values())


def test_without_a_gpu_every_part_says_why_it_was_not_done(bare: Bare, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "gpu.json"
    ran = bare("-m", "tests.gpu", "--out", str(out))
    assert ran.returncode == 1, ran.stderr
    found = json.loads(out.read_text())
    assert {name: part["status"] for name, part in found.items()} == dict.fromkeys(gpu.PARTS, "not done")
    assert f"torch {torch.__version__} sees no CUDA device" in found["tests"]["reason"]
    assert found["study"]["reason"] == "not installed: ray, pyarrow, pydantic, sklearn"
    for part in found.values():
        assert part["reason"] in ran.stdout


def writing(text: str, code: int = 0) -> gpu.Part:
    """A part whose command writes this and ends with this code."""
    program = "import sys; sys.argv[1] and open(sys.argv[1], 'w').write(sys.argv[2]); sys.exit(int(sys.argv[3]))"
    return gpu.Part(
        title="a part",
        needs=("torch",),
        command=lambda options, out: ["-c", program, str(out) if text else "", text, str(code)],
        read=json.loads,
        notes=lambda found: [f"noted {found}"],
    )


def test_a_part_is_done_or_failed_and_keeps_what_it_found() -> None:
    well, badly = (gpu.done(writing("[1]", code), OPTIONS, DEVICE) for code in (0, 3))
    assert (well["status"], well["found"], well["notes"], well["device"]) == ("done", [1], ["noted [1]"], DEVICE)
    assert well["versions"]["torch"] == torch.__version__
    assert (badly["status"], badly["found"]) == ("failed", [1])
    assert "ended with 3" in badly["reason"]
    assert gpu.done(writing(""), OPTIONS, DEVICE)["reason"] == "the command wrote nothing"
    assert gpu.done(replace(writing("[1]"), needs=("torch", "no_such_package")), OPTIONS, DEVICE) == {
        "status": "not done", "reason": "not installed: no_such_package",
    }  # fmt: skip


def test_what_was_measured_is_kept_where_it_cannot_be_measured_again() -> None:
    not_done = {"status": "not done", "reason": "no GPU"}
    old: dict[str, Any] = {
        "a": {"status": "done", "found": 1},
        "b": {"status": "not done", "reason": "no torch"},
        "c": {"status": "done", "found": 2},
    }
    now: dict[str, Any] = {"a": not_done, "b": not_done, "c": {"status": "failed", "reason": "it ended with 1"}}
    assert gpu.merged(old, now) == {"a": old["a"], "b": now["b"], "c": now["c"]}


def test_failures_of_tests_are_named() -> None:
    tags = ["", '<failure message="1 != 2&#10;more"/>', '<skipped message="no GPU"/>', '<error message="boom"/>']
    cases = [f'<testcase classname="x" name="{number}">{tag}</testcase>' for number, tag in enumerate(tags)]
    found = gpu.read_tests(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    assert found == {"passed": 1, "failed": {"x::1": ["1 != 2"], "x::3": ["boom"]}, "skipped": {"x::2": ["no GPU"]}}
    assert gpu.PARTS["tests"].notes(found) == ["x::1: 1 != 2", "x::3: boom", "x::2: no GPU"]


def test_packs_that_did_not_fit_are_noted() -> None:
    found = {"cuda": {"did_not_fit": {"fixed": "P = 4096: CUDA out of memory"}}}
    assert gpu.PARTS["packing"].notes(found) == ["fixed: does not fit, P = 4096: CUDA out of memory"]


def test_two_studies_are_compared_run_by_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = study.SPEC | {
        "configurations": 1,
        "arms": ["initial", "online"],
        "models": [{"hidden": [4]}],
        "inner": {"steps": 6},
    }
    del spec["grid"]
    for name in ("one", "other"):
        run_study(StudySpec.from_dict(spec), tmp_path / name, executor=SerialExecutor())
    run_study(StudySpec.from_dict(spec | {"seed": 4}), tmp_path / "another seed", executor=SerialExecutor())
    found = study.compare(tmp_path / "one", tmp_path / "other")
    assert (found["runs"], found["largest_relative_difference_of_a_t2_loss"]) == (2, 0)
    assert found["problems"] == ["runs were trained on 'cpu'"]
    assert len(study.compare(tmp_path / "one", tmp_path / "another seed")["problems"]) > 1


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_gpu_takes_a_named_python_as_it_is(tmp_path: Path) -> None:
    """It neither makes an environment nor installs anything."""
    shutil.copy(gpu.ROOT / "Makefile", tmp_path)
    (tmp_path / "constraints.txt").touch()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    python.chmod(0o755)
    subprocess.run(
        ["make", "gpu", f"PYTHON={python}", "ARGS=--only tests"], cwd=tmp_path, check=True, capture_output=True
    )
    assert (tmp_path / "calls").read_text() == "-m tests.gpu --only tests\n"
    assert not (tmp_path / ".venv").exists()
