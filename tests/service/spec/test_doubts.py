"""What is allowed in a spec and yet makes one wonder is told, and of a sensible spec nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service import StudySpec, load_spec
from service.spec.doubts import NEEDS, doubts_about

STUDIES = Path(__file__).parents[3] / "deploy" / "studies"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("**/*.toml")), ids=lambda path: path.stem)
def test_the_published_studies_leave_no_doubt(path: Path) -> None:
    assert doubts_about(load_spec(path)) == []


def test_the_defaults_leave_no_doubt() -> None:
    assert doubts_about(StudySpec(name="x")) == []


DOUBTFUL: dict[str, tuple[dict[str, Any], str]] = {
    "outer steps beyond the last": (
        {"outer": {"every": 3000}},
        "outer.every = 3,000, outer.warmup_steps = 0: the first outer step would come at step 3,000 of 2,000, so the "
        "arm 'online' tunes nothing",
    ),
    "a warm-up beyond the last": (
        {"outer": {"warmup_steps": 1995}},
        "outer.every = 10, outer.warmup_steps = 1,995: the first outer step would come at step 2,000 of 2,000",
    ),
    "channels of a perceptron": ({"models": [{"channels": [4]}]}, "models.channels: has no effect on 'mlp'"),
    "hidden layers of a cnn": ({"models": [{"name": "cnn", "hidden": [4]}]}, "models.hidden: has no effect on 'cnn'"),
    "an activation of a module": (
        {"models": [{"name": "m:f", "activation": "tanh"}]},
        "models.activation: has no effect on 'm:f'",
    ),
    "momentum without momentum": (
        {"inner": {"momentum": 0.5}},
        "inner.momentum: has no effect where inner.optimiser is not 'momentum'",
    ),
    "a look back that nobody takes": (
        {"outer": {"look_back": 3}},
        "outer.look_back: has no effect where outer.estimator is not 'neumann'",
    ),
    "means that nobody takes": (
        {"outer": {"estimator": "t1t2", "averaging": 0.5}},
        "outer.averaging: has no effect where outer.estimator is not 'forward' or 't1t2_lagged'",
    ),
    "a grid that nobody trains": (
        {"grid": {"points": {"log10_l2": 3}}},
        "grid: has no effect, because arms does not name 'grid'",
    ),
    "points beyond the last step": (
        {"record_every": 5000},
        "record_every = 5,000: a trajectory of 2,000 steps has its two ends alone",
    ),
    "checkpoints beyond the last step": (
        {"execution": {"checkpoint_every": 2000}},
        "execution.checkpoint_every = 2,000: a training of 2,000 steps has no checkpoint",
    ),
    "many actors for each core": (
        {"execution": {"cpus_per_actor": 0.1}},
        "execution.cpus_per_actor = 0.1: with actors = 'auto', 10 actors share each core",
    ),
}


@pytest.mark.parametrize(("values", "doubt"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_is_doubtful_is_told(values: dict[str, Any], doubt: str) -> None:
    spec = StudySpec.from_dict({"name": "x", **values})
    if doubt.endswith("2,000 of 2,000"):  # the last step is one
        assert doubts_about(spec) == []
        spec = StudySpec.from_dict({"name": "x", "outer": {"warmup_steps": 2000}})
        doubt = "outer.warmup_steps = 2,000: the first outer step would come at step 2,010 of 2,000"
    [found] = doubts_about(spec)
    assert doubt in found


def test_a_study_that_tunes_nothing_needs_no_outer_steps() -> None:
    assert doubts_about(StudySpec.from_dict({"name": "x", "arms": ["initial"], "outer": {"every": 3000}})) == []


def test_every_setting_that_may_be_idle_is_one() -> None:
    spec = StudySpec(name="x")
    for (table, key), (decides, values) in NEEDS.items():
        assert hasattr(getattr(spec, table), key)
        kind = type(getattr(spec, table))
        for value in values:
            kind(**{decides: value})
