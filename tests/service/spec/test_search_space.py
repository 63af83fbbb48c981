"""Ray Tune's search-space objects as starts: the same law in the spec's own words, or a reason why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ray import tune
from ray.tune.search.sample import Categorical, Domain, Float
from scipy import stats

from service import SpecError, StudySpec
from service.spec.plan import initial_value
from service.spec.starts import StartConfig
from trainers.config import Range

BOX = {"low": 0.0, "high": 8.0}
RANGE = Range(BOX["low"], BOX["high"])


def spec_with(start: object) -> StudySpec:
    """A spec whose noise starts so."""
    return StudySpec.from_dict({"name": "a", "hyperparameters": {"input_noise_std": {**BOX, "start": start}}})


TAKEN: dict[str, tuple[Any, dict[str, list[float]]]] = {
    "uniform": (tune.uniform(1, 3), {"uniform": [1, 3]}),
    "loguniform": (tune.loguniform(0.01, 4), {"loguniform": [0.01, 4]}),
    "randn": (tune.randn(2, 0.5), {"normal": [2, 0.5]}),
    "choice": (tune.choice([1, 4, 4.5]), {"choice": [1, 4, 4.5]}),
    "choice of NumPy's": (tune.choice(np.arange(1, 4).tolist() + list(np.arange(4, 6))), {"choice": [1, 2, 3, 4, 5]}),
    "randint": (tune.randint(2, 6), {"choice": [2, 3, 4, 5]}),
    "Float": (Float(1, 3), {"uniform": [1, 3]}),
}


@pytest.mark.parametrize(("domain", "table"), TAKEN.values(), ids=TAKEN)
def test_an_object_of_tunes_is_the_same_spec_as_the_table(domain: Domain, table: dict[str, list[float]]) -> None:
    spec = spec_with(domain)
    assert spec == spec_with(table)
    assert spec.hash == spec_with(table).hash
    assert StudySpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("name", ["uniform", "loguniform", "randn"])
def test_a_study_draws_as_tune_does(name: str) -> None:
    domain = TAKEN[name][0]
    start = spec_with(domain).starts["input_noise_std"]
    ours = [initial_value(1, place, 0, "input_noise_std", RANGE, start) for place in range(2000)]
    theirs = domain.sample(size=2000, random_state=np.random.default_rng(1))
    assert stats.ks_2samp(ours, theirs).pvalue > 0.01


@pytest.mark.parametrize("name", ["choice", "randint"])
def test_a_study_chooses_as_tune_does(name: str) -> None:
    domain = TAKEN[name][0]
    start = spec_with(domain).starts["input_noise_std"]
    ours = [initial_value(1, place, 0, "input_noise_std", RANGE, start) for place in range(2000)]
    theirs = domain.sample(size=2000, random_state=np.random.default_rng(1))
    values = sorted(set(map(float, theirs)))
    counts = [[draws.count(value) for value in values] for draws in (ours, list(map(float, theirs)))]
    assert sum(counts[0]) == 2000
    assert stats.chi2_contingency(counts).pvalue > 0.01


MUST = "must be tune.uniform, tune.loguniform, tune.randn, tune.choice or tune.randint; of others name the values with"
REFUSED: dict[str, tuple[Any, str]] = {
    "quniform": (tune.quniform(1, 3, 0.5), f" = tune's Quantized over Float(1, 3): {MUST} tune.choice"),
    "qloguniform": (tune.qloguniform(1, 4, 1), f" = tune's Quantized over Float(1, 4): {MUST}"),
    "qrandn": (tune.qrandn(2, 1, 0.5), f" = tune's Quantized over Float(-inf, inf): {MUST}"),
    "qrandint": (tune.qrandint(2, 6, 2), f" = tune's Quantized over Integer(2, 6): {MUST}"),
    "lograndint": (tune.lograndint(1, 6), f" = tune's LogUniform over Integer(1, 6): {MUST}"),
    "a normal with ends": (Float(1, 3).normal(2, 1), f" = tune's Normal over Float(1, 3): {MUST}"),
    "grid_search": (tune.grid_search([1, 2]), ".grid_search: a grid is no distribution of a start: ask for the arm"),
    "a grid": (Categorical([1, 2]).grid(), " = tune's Grid over Categorical[1, 2]: a grid is no distribution"),
    "sample_from": (tune.sample_from(lambda _: 3), " = tune.sample_from(…): a function cannot be hashed"),
    "words": (tune.choice(["small", "large"]), '.choice.0 = "small": must be a valid number'),
    "truth values": (tune.choice([np.True_]), ".choice.0 = true: must be a valid number"),
    "too many": (tune.randint(0, 10**15), "must be of at most 1,000 entries"),
    "outside": (tune.uniform(-1, 3), ".uniform = [-1.0, 3.0]: must be within the box [0, 8]"),
    "far away": (tune.randn(20, 0.5), "of its mass in the box [0, 8]"),
}


@pytest.mark.parametrize(("domain", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_a_start_is_told_why(domain: object, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec_with(domain)
    assert str(caught.value).startswith("spec: hyperparameters.input_noise_std.start")
    assert message in str(caught.value)
    assert "0x" not in str(caught.value)


def test_an_object_of_tunes_in_the_place_of_a_number_is_no_number() -> None:
    values = {"name": "a", "hyperparameters": {"input_noise_std": {"low": tune.uniform(0, 1), "high": 1}}}
    with pytest.raises(SpecError, match=r"input_noise_std.low = .*: must be a valid number"):
        StudySpec.from_dict(values)


def test_the_start_of_a_regulariser_of_the_users_own() -> None:
    custom = {"m:f": {**BOX, "start": tune.randn(4, 1)}}
    spec = StudySpec.from_dict({"name": "a", "hyperparameters": {"custom": custom}})
    assert spec.starts == {"m:f": StartConfig(normal=(4.0, 1.0))}
