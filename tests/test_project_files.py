"""The files at the root that other programs read: they meet their schemas, and say what the Makefile does."""

from __future__ import annotations

import importlib.resources
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement

from tests import lowest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def published_schema(name: str) -> Any:
    """A schema that check-jsonschema carries with it."""
    schemas = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    return json.loads((schemas / name).read_text(encoding="utf-8"))


def loaded(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def recipe(target: str) -> list[str]:
    """The command lines of a target of the Makefile."""
    match = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert match, target
    return [line.replace("$(BIN)", ".venv/bin").strip() for line in match[1].splitlines()]


@pytest.mark.parametrize(
    ("path", "schema"),
    [(".github/workflows/ci.yml", "github-workflows.json"), ("CITATION.cff", "citation-file-format.json")],
)
def test_file_meets_its_published_schema(path: str, schema: str) -> None:
    jsonschema.validate(loaded(path), published_schema(schema))


def test_workflow_runs_what_must_pass_on_the_oldest_python_and_a_newer_one() -> None:
    jobs = loaded(".github/workflows/ci.yml")["jobs"]
    assert {step.get("run") for job in jobs.values() for step in job["steps"]} == {None, ".ci/run", "make test-lowest"}
    pythons = jobs["check"]["strategy"]["matrix"]["python"]
    assert f">={pythons[0]}" == PROJECT["requires-python"]
    assert len(pythons) > 1


def test_citation_is_of_this_software_and_of_the_paper() -> None:
    citation = loaded("CITATION.cff")
    assert citation["title"].startswith(f"{PROJECT['name']}: ")
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    (paper,) = citation["references"]
    assert paper["identifiers"][0]["value"] == "arXiv:1511.06727"


def test_hooks_are_the_checks_of_lint_and_download_nothing() -> None:
    (local,) = loaded(".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    assert {hook["language"] for hook in local["hooks"]} == {"system"}
    entries = " ".join(hook["entry"] for hook in local["hooks"]).replace(" --force-exclude", "")
    for line in recipe("lint"):
        assert line.removesuffix(" .") in entries


def test_lowest_versions_are_those_of_every_requirement() -> None:
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in lowest.EXTRAS)]
    requirements = [Requirement(line) for group in groups for line in group]
    floors = lowest.lowest()
    assert set(floors) == {requirement.name for requirement in requirements}
    for requirement in requirements:
        floor = floors[requirement.name]
        assert floor in requirement.specifier
        assert any(part.version == floor for part in requirement.specifier)


def test_a_requirement_without_a_lower_bound_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pyproject = tmp_path / "pyproject.toml"
    extras = ", ".join(f"{extra} = []" for extra in lowest.EXTRAS)
    pyproject.write_text(f'[project]\ndependencies = ["numpy<3"]\noptional-dependencies = {{{extras}}}\n')
    monkeypatch.setattr(lowest, "PYPROJECT", pyproject)
    with pytest.raises(ValueError, match="no lower bound is read from numpy<3"):
        lowest.lowest()
