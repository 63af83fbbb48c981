"""The distribution's metadata: whose the import names are, what it says it needs, and what the pins hold."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGES = ("service", "trainers", "analysis")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTION = PROJECT["name"]

# Where the import name is not the distribution's.
IMPORTED_AS = {"mlflow": "mlflow-skinny", "pydantic_core": "pydantic", "sklearn": "scikit-learn"}


def pins() -> dict[str, str]:
    lines = (line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#"))
    return {canonicalize_name(name): number for name, number in (line.split("==") for line in lines)}


def requirements() -> dict[str, list[Requirement]]:
    groups = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    return {group: [Requirement(line) for line in lines] for group, lines in groups.items()}


@pytest.mark.parametrize("package", PACKAGES)
def test_import_name_is_this_distributions_alone(package: str) -> None:
    # PyPI has a distribution called `service`, which would hide ours without a word.
    assert set(importlib.metadata.packages_distributions()[package]) == {DISTRIBUTION}


def test_command_is_installed() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="t1t2")
    assert script.value == "service.cli.app:main"
    assert callable(script.load())


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_imported_is_required(package: str) -> None:
    required = {canonicalize_name(requirement.name) for requirement in requirements()[""]}
    optional = (lines for extra, lines in requirements().items() if extra not in ("", "bench", "lint", "test"))
    extras = {canonicalize_name(requirement.name) for lines in optional for requirement in lines}
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - {*PACKAGES, *sys.stdlib_module_names}:
                distribution = canonicalize_name(IMPORTED_AS.get(name, name))
                assert distribution in required | extras, f"{path.relative_to(ROOT)} imports {name}"


def test_every_requirement_is_imported_or_run_somewhere() -> None:
    text = "\n".join(path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    for requirement in requirements()[""]:
        names = [name for name, owner in IMPORTED_AS.items() if owner == requirement.name] or [requirement.name]
        assert any(re.search(rf"\b{name.replace('-', '_')}\b", text) for name in names), requirement.name


def test_pins_meet_the_requirements() -> None:
    pinned = pins()
    for requirement in (requirement for group in requirements().values() for requirement in group):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"constraints.txt does not pin {name}"
        assert pinned[name] in requirement.specifier, f"{name}=={pinned[name]} is not {requirement.specifier}"


def test_what_is_installed_is_what_is_pinned() -> None:
    for name, number in pins().items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of an extra that this environment lacks
        assert installed.partition("+")[0] == number, f"{name} {installed}: run `make .venv`"


def test_torch_is_pinned_without_a_build() -> None:
    assert re.fullmatch(r"[0-9.]+", pins()["torch"])  # so that the CPU and the CUDA build both meet the pin
    assert not [name for name in pins() if name.startswith(("nvidia-", "triton"))]
