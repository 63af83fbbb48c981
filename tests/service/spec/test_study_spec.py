"""The spec: what is refused, with which words, and what the hash covers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from service import SpecError, StudySpec, differences, load_spec, resume_study
from service.executors.serial import SerialExecutor
from tests.service.studies import run_serially, toy_spec
from trainers.config import HyperparameterConfig, Range

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": (
        {"inner": {"learning_rat": 0.1}},
        "inner.learning_rat: unknown key; allowed: optimiser, learning_rate",
    ),
    "unknown key at the top": ({"sed": 1}, "sed: unknown key; allowed: name, seed"),
    "unknown key in a list": ({"models": [{"hiden": [3]}]}, "models.0.hiden: unknown key; allowed: name, hidden"),
    "unknown key in a range": (
        {"hyperparameters": {"log10_l2": {"low": 0, "high": 1, "rate": 1}}},
        "hyperparameters.log10_l2.rate: unknown key; allowed: low, high, learning_rate, scope, coordinate, start",
    ),
    "a string for a number": (
        {"inner": {"learning_rate": "0.1"}},
        'inner.learning_rate = "0.1": must be a valid number',
    ),
    "a float for a count": ({"configurations": 2.5}, "configurations = 2.5: must be a valid integer"),
    "a bool for a count": ({"configurations": True}, "configurations = true: must be a valid integer"),
    "inverted range": (
        {"hyperparameters": {"log10_l2": {"low": 2, "high": 1}}},
        "hyperparameters.log10_l2: [low, high] = [2.0, 1.0]: must be finite with low < high",
    ),
    "a limit of a range": (
        {"hyperparameters": {"log10_l2": {"low": 0, "high": 1, "learning_rate": -1}}},
        "hyperparameters.log10_l2.learning_rate = -1.0: must be at least 0",
    ),
    "noise in the wrong coordinate": (
        {"hyperparameters": {"log10_l2": {"low": -1, "high": 1, "coordinate": "variance"}}},
        "hyperparameters.log10_l2.low = -1.0: must be at least 0 where coordinate = 'variance'",
    ),
    "too few points": ({"grid": {"points": {"log10_l2": 0}}}, "grid.points.log10_l2 = 0: must be at least 1"),
    "an arm that is none": ({"arms": ["onlin"]}, "arms.0 = \"onlin\": must be 'initial', 'online', 'rerun' or 'grid'"),
    "an arm twice": ({"arms": ["online", "online"]}, "each once"),
    "rerun without online": ({"arms": ["rerun"]}, "'rerun' trains with the final values of 'online'"),
    "grid without points": ({"arms": ["grid"], "grid": {}}, "grid.points: the arm 'grid' needs them"),
    "a model that is none": ({"models": [{"name": "mpl"}]}, "models.name = 'mpl': must be 'mlp', 'cnn'"),
    "two models alike": ({"models": [{"hidden": [3]}, {"hidden": [3]}]}, "each with a label of its own"),
    "actors": ({"execution": {"actors": "many"}}, "execution.actors = \"many\": must be a valid integer or 'auto'"),
    "no actors": ({"execution": {"actors": 0}}, "execution.actors = 0: must be at least 1"),
    "a batch beyond the data": (
        {"inner": {"batch_size": 5000}},
        "inner.batch_size = 5000: must be at most data.t1_size",
    ),
    "a climbing name": ({"name": "../x"}, "name = '../x': must be 1 to 100 letters, digits"),
    "a hidden name": ({"name": ".x"}, "name = '.x'"),
    "more configurations than a driver holds": ({"configurations": 10**17}, "at least 1 and at most 100,000,000"),
    "more runs than a driver holds": (
        {"configurations": 10**7, "replicates": 10},
        "cells of the grid, the study has 600,000,024 runs: must be at most 100,000,000",
    ),
    "more cells than a driver holds": (
        {"grid": {"points": {"log10_l2": 10**6, "input_noise_std": 10**6}}},
        "the study has over 1,000,000,000 runs: must be at most 100,000,000",
    ),
    "an axis with too many points": (
        {"grid": {"points": {"log10_l2": 10**9}}},
        "grid.points.log10_l2 = 1000000000: must be at least 1 and at most 1,000,000",
    ),
    "a regulariser named as a column": (
        {"hyperparameters": {"custom": {"m:run_id": {"low": 0, "high": 1}}}},
        "hyperparameters.custom = 'm:run_id': must be named by an attribute that is no column of the tables",
    ),
    "a trainer that is no reference": ({"trainer": ".:x"}, "trainer = '.:x': must be 'module:attribute'"),
    "a trainer that is none": ({"trainer": "mine"}, "trainer = 'mine': must be 't1t2' or 'module:function'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    values, message = BAD[case]
    with pytest.raises(SpecError) as error:
        toy_spec(**values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


LONG = "long" * 2500


@pytest.mark.parametrize(
    "values",
    [
        {"name": LONG},
        {"seed": LONG},
        {"trainer": LONG},
        {LONG: 1},
        {"inner": {LONG: 1}},
        {"inner": {"optimiser": LONG}},
        {"models": [{"name": LONG}]},
        {"arms": ["online"] * 2500},
        {"grid": {"points": {LONG: 0}}},
        {"hyperparameters": {"custom": {LONG: {"low": 0, "high": 1}}}},
        {"hyperparameters": {"custom": {f"{LONG}:x": {"low": 0, "high": 1, "scope": "layer"}}}},
    ],
)
def test_what_is_long_is_shortened(values: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as error:
        toy_spec(**values)
    assert len(str(error.value)) < 500


def test_every_bad_key_is_named_in_one_error() -> None:
    with pytest.raises(SpecError) as error:
        toy_spec(seed="x", name=3, inner={"steps": "many"})
    assert len(str(error.value).splitlines()) == 3


def test_files_that_are_no_spec(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("name = ")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name, message in {"none": "cannot be read", "broken": "is not TOML", "binary": "cannot be read"}.items():
        with pytest.raises(SpecError, match=message):
            load_spec(tmp_path / f"{name}.toml")


def test_a_toml_file_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        'name = "a"\n[inner]\nlearning_rate = 1\n[[models]]\nhidden = [3, 4]\n[hyperparameters.log10_l2]\n'
        "low = -4\nhigh = -1\n"
    )
    spec = load_spec(path)
    assert spec.inner.learning_rate == 1.0
    assert spec.models[0].hidden == (3, 4)
    assert spec.hyperparameters.input_noise_std is None, "a study tunes the hyperparameters that it names"
    assert StudySpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_unnamed_hyperparameters_are_the_default_ones() -> None:
    assert StudySpec.from_dict({"name": "a"}).hyperparameters.input_noise_std is not None


AFFECTS_NOTHING: list[dict[str, Any]] = [
    {"name": "other"},
    {"configurations": 99},
    {"execution": {"actors": 7, "runs_per_actor": 3, "checkpoint_every": 5}},
    {"arms": ["grid", "rerun", "online", "initial"]},
    {"models": [{"hidden": [4, 4]}, {"hidden": [8]}]},
    {"data": {"root": "/elsewhere"}},
]
AFFECTS: list[dict[str, Any]] = [
    {"seed": 6},
    {"replicates": 2},
    {"arms": ["initial", "online"]},
    {"models": [{"hidden": [8]}]},
    {"hyperparameters": {"input_noise_std": {"low": 0, "high": 1}}},
    {"hyperparameters": {"input_noise_std": {"low": 0, "high": 1, "start": {"choice": [0.5]}}}},
    {"inner": {"steps": 7}},
    {"outer": {"every": 3}},
    {"data": {"split_seed": 1}},
    {"record_every": 7},
    {"dtype": "float64"},
    {"trainer": "t1t2"},
    {"grid": {"points": {"log10_l2": 3, "input_noise_std": 2}, "replicates": 3}},
    {"grid": {"points": {"input_noise_std": 2, "log10_l2": 3}, "replicates": 2}},  # another order numbers cells anew
]


def test_the_hash_covers_what_affects_results_and_nothing_else() -> None:
    spec = toy_spec()
    assert {toy_spec(**values).hash for values in AFFECTS_NOTHING} == {spec.hash}
    assert len({spec.hash, *(toy_spec(**values).hash for values in AFFECTS)}) == len(AFFECTS) + 1
    changed = {key for values in (*AFFECTS, *AFFECTS_NOTHING) for key in values}
    named = {field.name for field in dataclasses.fields(StudySpec)} - {"starts"}  # which stand in the boxes
    assert changed == named, "a new field belongs into one list"


def test_whole_numbers_made_in_python_are_the_floats_of_a_file(tmp_path: Path) -> None:
    boxes = HyperparameterConfig(log10_l2=Range(-5, -2), input_noise_std=None)
    spec = dataclasses.replace(toy_spec(arms=["initial"], grid={}), hyperparameters=boxes)
    read = StudySpec.from_dict(spec.to_dict())
    assert read == spec
    assert read.hash == spec.hash
    run_serially(spec, tmp_path / "out")
    assert resume_study(str(tmp_path / "out"), executor=SerialExecutor()).state == "completed"


def test_differences_name_keys_and_both_values() -> None:
    assert differences(toy_spec(inner={"steps": 7}, seed=1), toy_spec()) == [
        "inner.steps: 7 here, 2000 in the study",
        "seed: 1 here, 5 in the study",
    ]


@pytest.mark.parametrize(
    ("root", "found"),
    [("files", "{spec}/files"), ("../files", "{above}/files"), ("/files", "/files"), ("~/files", "~/files")],
)
def test_a_relative_data_root_is_below_the_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, found: str
) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.toml").write_text(f'name = "a"\n[data]\nname = "mnist"\nroot = "{root}"\n')
    monkeypatch.chdir(tmp_path)
    spec = load_spec(Path("specs/a.toml"))
    assert spec.data.root == found.format(spec=tmp_path / "specs", above=tmp_path)
    assert spec.hash == StudySpec.from_dict({"name": "a", "data": {"name": "mnist"}}).hash
