"""Starts: the laws of their draws, their bounds, what is refused, and how a spec keeps them."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from service import SpecError, StudySpec, differences, load_spec, read_spec
from service.spec.arms import ARMS
from service.spec.plan import initial_value, make_plan
from service.spec.starts import LAWS, LEAST_MASS, StartConfig, quantile
from tests.service.studies import assert_complete, run_serially, table, toy_spec
from trainers.config import HyperparameterConfig, Range
from trainers.errors import ConfigError

BOX = {"low": -5.5, "high": -2.5}
RANGE = Range(BOX["low"], BOX["high"])
INITIAL = ARMS["initial"]


def spec_with(start: object, **box: Any) -> StudySpec:
    """A spec whose one hyperparameter starts so."""
    return StudySpec.from_dict({"name": "a", "hyperparameters": {"log10_l2": {**BOX, **box, "start": start}}})


def refused(start: object, **box: Any) -> str:
    """The message that such a start is refused with."""
    with pytest.raises(SpecError) as caught:
        spec_with(start, **box)
    return str(caught.value)


@st.composite
def starts_in_boxes(draw: st.DrawFn) -> tuple[StartConfig, Range]:
    """Any start that a spec accepts, with its box."""
    low = draw(st.floats(-50, 50))
    box = Range(low, low + draw(st.floats(1e-3, 60)))
    inside = st.floats(box.low, box.high)
    law = draw(st.sampled_from(LAWS))
    if law == "normal":
        width = box.high - box.low
        mean, deviation = box.low + width * draw(st.floats(-2, 3)), width * draw(st.floats(0.01, 20))
        start = StartConfig(normal=(mean, deviation))
    elif law == "choice":
        start = StartConfig(choice=tuple(draw(st.lists(inside, min_size=1, max_size=6))))
    else:
        lower, upper = sorted((draw(inside), draw(inside)))
        assume(lower < upper and (law == "uniform" or lower > 0))
        ends = (lower, upper)
        start = StartConfig(uniform=ends) if law == "uniform" else StartConfig(loguniform=ends)
    try:
        StudySpec("a", hyperparameters=HyperparameterConfig(log10_l2=box), starts={"log10_l2": start})
    except SpecError:
        assume(False)
    return start, box


def law_of(start: StartConfig, box: Range) -> Any:
    """The same law by SciPy."""
    if start.normal is not None:
        mean, deviation = start.normal
        a, b = ((end - mean) / deviation for end in (box.low, box.high))
        return stats.truncnorm(a, b, loc=mean, scale=deviation)
    low, high = start.values
    return stats.uniform(low, high - low) if start.law == "uniform" else stats.loguniform(low, high)


@given(given_=starts_in_boxes(), parts=st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_every_draw_lies_in_the_box_and_follows_its_law(given_: tuple[StartConfig, Range], parts: list[float]) -> None:
    start, box = given_
    parts = [0.0, *sorted(parts), 1.0]
    values = [quantile(start, box, part) for part in parts]
    assert all(box.low <= value <= box.high for value in values)
    if start.choice is not None:
        assert set(values) <= set(start.choice)
        return
    assert np.diff(values).min() >= -1e-12 * (abs(box.low) + abs(box.high))  # it grows, but for the last digits
    assert np.abs(law_of(start, box).cdf(values) - parts).max() < 1e-8


@given(given_=starts_in_boxes())
def test_a_start_survives_the_way_into_a_file_and_back(given_: tuple[StartConfig, Range]) -> None:
    start, box = given_
    spec = StudySpec("a", hyperparameters=HyperparameterConfig(log10_l2=box), starts={"log10_l2": start})
    again = StudySpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.hash == spec.hash


LAWS_OF_DRAWS = [
    StartConfig(uniform=(-4.0, -3.0)),
    StartConfig(normal=(-4.0, 0.5)),
    StartConfig(normal=(-4.0, 100.0)),  # nearly uniform over the box
    StartConfig(normal=(-2.5, 0.25)),  # half of it lies beyond the box
    StartConfig(normal=(-8.0, 0.6)),  # the box begins four deviations above the mean
    StartConfig(normal=(0.5, 0.7)),  # and ends four below it
]


@pytest.mark.parametrize("start", LAWS_OF_DRAWS, ids=str)
def test_the_draws_of_a_study_follow_the_law(start: StartConfig) -> None:
    box = RANGE
    draws = [initial_value(7, place, 0, "log10_l2", box, start) for place in range(3000)]
    assert stats.kstest(draws, law_of(start, box).cdf).pvalue > 0.01


def test_logarithms_of_the_draws_of_loguniform_are_uniform() -> None:
    start, box = StartConfig(loguniform=(1e-3, 0.5)), Range(0.0, 0.8)
    draws = np.array([initial_value(7, place, 0, "input_noise_std", box, start) for place in range(3000)])
    assert stats.kstest(np.log10(draws), stats.uniform(-3, math.log10(0.5) + 3).cdf).pvalue > 0.01


def test_the_values_of_a_choice_are_as_likely_as_they_are_often_named() -> None:
    start, box = StartConfig(choice=(-3.0, -5.0, -4.0, -5.0)), RANGE
    draws = [initial_value(7, place, 0, "log10_l2", box, start) for place in range(4000)]
    counts = [draws.count(value) for value in (-3.0, -4.0, -5.0)]
    assert sum(counts) == 4000
    assert stats.chisquare(counts, [1000, 1000, 2000]).pvalue > 0.01


@pytest.mark.parametrize("normal", [(-8.0, 0.6), (0.5, 0.7), (-4.0, 0.5), (-4.0, 1e6), (3.0, 1.2), (-2.5, 1e-3)])
def test_a_truncated_normal_is_that_of_scipy(normal: tuple[float, float]) -> None:
    start, box, parts = StartConfig(normal=normal), RANGE, np.linspace(0, 1, 1001)
    if normal[1] < 1e6:  # of which too little lies in the box for a spec; the formula holds all the same
        spec_with({"normal": list(normal)})
    values = [quantile(start, box, part) for part in parts]
    np.testing.assert_allclose(values, law_of(start, box).ppf(parts), rtol=1e-9)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_box_in_the_far_tail_is_refused_from_a_millionth_on(side: int) -> None:
    end = BOX["high"] if side == 1 else BOX["low"]
    distance = stats.norm.isf(LEAST_MASS)  # of the mean beyond the box, in deviations of 0.5; the other end is far
    assert spec_with({"normal": [end + side * 0.5 * (distance - 1e-3), 0.5]}).starts
    message = refused({"normal": [end + side * 0.5 * (distance + 1e-3), 0.5]})
    assert "must be a normal distribution with at least 1e-06 of its mass in the box [-5.5, -2.5], not 1e-06" in message
    assert "of its mass in the box [-5.5, -2.5], not 0" in refused({"normal": [side * 1e6, 0.5]})


def test_a_start_uniform_over_the_box_draws_as_none_does() -> None:
    box = RANGE
    whole = StartConfig(uniform=(box.low, box.high))
    for place in range(200):
        assert initial_value(3, place, 0, "log10_l2", box, whole) == initial_value(3, place, 0, "log10_l2", box)


def test_specs_without_starts_keep_their_hash_and_ids() -> None:
    """A change here disowns every study begun before: flag it in CHANGELOG.md."""
    assert StudySpec("a").hash == "ec8f1f9443db46ec0a07098c5121e4e119c89359eb9a9b96de13580d40041f9b"
    plan = make_plan(toy_spec())
    assert plan.spec.hash == "5455e8714c8dfb021781d74e163c877e3306f3d14f6c2938d225a5d87eace35a"
    assert plan.run_id(INITIAL, 1, 2) == "7a2bd7aae4ed5f1ab0b8"
    assert "start" not in json.dumps(plan.spec.to_dict())


LAYERS = {
    "log10_l2": {"low": -5.0, "high": -2.0, "scope": "layer", "start": {"normal": [-4.0, 0.5]}},
    "input_noise_std": {"low": 0.0, "high": 1.0, "start": {"loguniform": [0.01, 0.5]}},
}


def test_draws_are_pinned() -> None:
    """A change here changes every study with such starts: flag it in CHANGELOG.md."""
    run = make_plan(toy_spec(hyperparameters=LAYERS)).run(INITIAL, 1, 2)
    assert run.run_id == "5f986a4ae8009e2f75f0"
    assert run.initial == pytest.approx(
        {
            "log10_l2_layer1": -4.276132915249839,
            "log10_l2_layer2": -3.9355520578068743,
            "input_noise_std": 0.2652806940764263,
        },
        rel=1e-13,  # the last digits are the C library's
    )


def test_each_layer_draws_its_own() -> None:
    plan = make_plan(toy_spec(configurations=500, hyperparameters=LAYERS))
    values = np.array([list(plan.run(INITIAL, 1, slot).initial.values()) for slot in range(500)])
    law = law_of(StartConfig(normal=(-4.0, 0.5)), Range(-5.0, -2.0))
    assert all(stats.kstest(values[:, layer], law.cdf).pvalue > 0.01 for layer in (0, 1))
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 4 / math.sqrt(500)


def test_groups_and_regularisers_of_the_users_own_draw_from_their_starts() -> None:
    own = "tests.trainers.regularisers:brightness"
    boxes = {
        "log10_l2": {**BOX, "scope": "group", "start": {"choice": [-3.0]}},
        "l2_groups": {"start": ["1.weight"], "others": ["[!1].weight"]},  # a group may have any name
        "custom": {own: {"low": 0.1, "high": 0.5, "start": {"choice": [0.25]}}},
    }
    spec = toy_spec(trainer="t1t2", arms=["initial"], grid={}, models=[{"hidden": [4]}], hyperparameters=boxes)
    assert make_plan(spec).run(INITIAL, 0, 0).initial == {
        "log10_l2_start": -3.0, "log10_l2_others": -3.0, "brightness": 0.25,
    }  # fmt: skip
    assert StudySpec.from_dict(spec.to_dict()) == spec


def test_the_hash_covers_starts() -> None:
    plain, normal = spec_with(None), spec_with({"normal": [-4, 0.5]})
    assert len({s.hash for s in (plain, normal, spec_with({"normal": [-4, 0.6]}), spec_with({"choice": [-4]}))}) == 4
    assert plain == StudySpec.from_dict({"name": "a", "hyperparameters": {"log10_l2": BOX}})
    assert StudySpec("a", starts={"log10_l2": StartConfig(choice=(-4, -3))}).hash == (
        StudySpec("a", starts={"log10_l2": StartConfig(choice=(-4.0, -3.0))}).hash
    )
    assert differences(normal, plain) == [
        "hyperparameters.log10_l2.start.normal: [-4.0, 0.5] here, not set in the study"
    ]


def test_no_start_of_the_grid_moves() -> None:
    moved, plain = (make_plan(toy_spec(**values)) for values in ({"hyperparameters": LAYERS}, {}))
    assert [moved.cell(1, index) for index in range(6)] == [plain.cell(1, index) for index in range(6)]


def test_a_study_is_run_from_its_starts_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        'name = "toy"\nseed = 5\nconfigurations = 3\narms = ["initial", "online", "rerun"]\n'
        'trainer = "tests.service.toy:train"\n[hyperparameters]\n'
        "log10_l2 = { low = -5.5, high = -2.5, start = { choice = [-3, -5] } }\n"
        "input_noise_std = { low = 0.0, high = 1.0, start = { uniform = [0.5, 0.6] } }\n"
    )
    spec = load_spec(path)
    run_serially(spec, tmp_path / "out")
    assert_complete(tmp_path / "out", spec)
    assert read_spec(str(tmp_path / "out")) == spec
    runs = table(tmp_path / "out")
    started = runs[runs["arm"] != "rerun"]
    assert set(started["log10_l2_initial"]) <= {-3.0, -5.0}
    assert started["input_noise_std_initial"].between(0.5, 0.6).all()
    run_serially(spec, tmp_path / "out")  # the same study: nothing is trained twice
    assert len(table(tmp_path / "out")) == len(runs)


REFUSED: dict[str, tuple[object, str]] = {
    "none of the laws": ({}, " = []: must be one of uniform, loguniform, normal, choice, and one alone"),
    "two laws": (
        {"choice": [-3], "uniform": [-4, -3]},
        " = ['uniform', 'choice']: must be one of uniform, loguniform,",
    ),
    "an unknown law": ({"nomal": [-4, 1]}, ".nomal: unknown key; allowed: uniform, loguniform, normal, choice"),
    "one number": ({"normal": [-4]}, ".normal.1: missing"),
    "three numbers": ({"normal": [-4, 1, 2]}, ".normal = [-4, 1, 2]: must have 2 entries"),
    "no deviation": ({"normal": [-4, 0]}, ".normal = [-4.0, 0.0]: must be a mean and a standard deviation of at least"),
    "a word": ({"choice": [-3, "x"]}, '.choice.1 = "x": must be a valid number'),
    "nothing to choose": ({"choice": []}, ".choice = []: must be one value or more"),
    "infinity": ({"uniform": [-4, math.inf]}, ".uniform = "),
    "beyond any box": ({"normal": [1e7, 1]}, ".normal = (10000000.0, 1.0): must be at least -1e+06 and at most 1e+06"),
    "ends in disorder": ({"uniform": [-3, -4]}, ".uniform = [-3.0, -4.0]: must be two numbers, the lower one first"),
    "a logarithm of less than 0": ({"loguniform": [-4, -3]}, ".loguniform = [-4.0, -3.0]: must be above 0"),
    "ends outside": ({"uniform": [-6, -3]}, ".uniform = [-6.0, -3.0]: must be within the box [-5.5, -2.5]"),
    "a value outside": ({"choice": [-3, -2]}, ".choice = [-3.0, -2.0]: must be within the box [-5.5, -2.5]"),
    "a number": (-4, " = -4: must be a table with one of uniform, loguniform, normal and choice, such as { normal ="),
    "a grid": ({"grid_search": [-4, -3]}, ".grid_search: a grid is no distribution of a start: ask for the arm 'grid'"),
    "code": (lambda: -4, ": a function cannot be hashed"),
    "code by name": ({"sample_from": "f"}, ".sample_from: a function cannot be hashed"),
}


@pytest.mark.parametrize(("start", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_start_is_named(start: object, message: str) -> None:
    found = refused(start)
    assert found.startswith("spec: hyperparameters.log10_l2.start")
    assert message in found
    assert "\n" not in found


def test_a_bad_start_is_named_beside_other_bad_keys() -> None:
    own = {"m:f": {"low": 0, "high": 1, "start": {"normal": [0, -1]}}}
    values = {"name": "a", "seed": "x", "hyperparameters": {"custom": own, "log10_l2": {**BOX, "strat": 1}}}
    with pytest.raises(SpecError) as caught:
        StudySpec.from_dict(values)
    seed, box, start = sorted(str(caught.value).splitlines(), reverse=True)
    assert seed.startswith('spec: seed = "x"')
    assert box.endswith("log10_l2.strat: unknown key; allowed: low, high, learning_rate, scope, coordinate, start")
    assert start.startswith("spec: hyperparameters.custom.m:f.start.normal = [0.0, -1.0]: must be a mean and")


@pytest.mark.parametrize("start", [3, {"choice": [9]}, {"choice": ["x"]}, {"grid_search": [0]}, {"normal": [0, 0]}])
def test_a_name_that_is_long_is_shortened_and_printable(start: object) -> None:
    own = "m" * 900 + ":f"
    for name in (own, "\x1b[31m" + own):
        custom = {name: {"low": 0, "high": 1, "start": start}}
        with pytest.raises(SpecError) as caught:
            StudySpec.from_dict({"name": "a", "hyperparameters": {"custom": custom}})
        assert len(str(caught.value)) < 500
        assert "\x1b" not in str(caught.value)


def test_starts_have_one_place_in_a_file() -> None:
    with pytest.raises(SpecError, match=r"starts: unknown key; a start stands in .*hyperparameters.log10_l2.start"):
        StudySpec.from_dict({"name": "a", "starts": {"log10_l2": {"choice": [-3]}}})


def test_a_start_of_nothing_is_refused_in_python() -> None:
    start = StartConfig(choice=(0.5,))
    with pytest.raises(SpecError, match=r"starts: 'hidden_noise_std' is not a hyperparameter of this study; allowed: "):
        StudySpec("a", starts={"hidden_noise_std": start})
    with pytest.raises(SpecError, match=r"starts = .*: must be a table of StartConfig objects"):
        StudySpec("a", starts={"log10_l2": (-4.0, 0.5)})  # type: ignore[dict-item]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(StartConfig)])
@pytest.mark.parametrize("value", [3, "x", ("x", "y"), (math.nan, 1), (True, False), [[1], [2]], (1e300, 1e301)])
def test_a_wrong_value_in_python_is_named(field: str, value: object) -> None:
    with pytest.raises((SpecError, ConfigError), match=rf"^start.{field} = "):
        StartConfig(**{field: value})  # type: ignore[arg-type]


def test_the_example_of_the_readme_is_a_spec(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "service" / "README.md").read_text(encoding="utf-8")
    example = text.partition("## Where hyperparameters start")[2].partition("```toml\n")[2].partition("```")[0]
    path = tmp_path / "study.toml"
    path.write_text(f'name = "a"\n{example}')
    assert load_spec(path).starts == {
        "log10_l2": StartConfig(normal=(-4.0, 0.5)), "input_noise_std": StartConfig(loguniform=(0.01, 0.8)),
    }  # fmt: skip


def test_a_start_is_read_and_hashed_where_there_is_no_ray() -> None:
    spec = spec_with({"normal": [-4, 0.5]})
    code = (
        "import json, sys; sys.modules['ray'] = None\n"
        "from service import StudySpec\n"
        "print(StudySpec.from_dict(json.loads(sys.argv[1])).hash)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, json.dumps(spec.to_dict())], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == spec.hash
