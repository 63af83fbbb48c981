"""Settings: what is refused, and that the message names the value, what is allowed and where."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.bounds import settings_of
from trainers.config import (
    ConfigError,
    DataConfig,
    HyperparameterConfig,
    InnerConfig,
    ModelConfig,
    OuterConfig,
    Range,
    TrainConfig,
)

BOX = Range(0.0, 0.5)
KINDS = {"data": DataConfig, "models": ModelConfig, "inner": InnerConfig, "outer": OuterConfig}

# class, settings, and the parts that the message must have: where, the value, what is allowed
REFUSED = [
    (DataConfig, {"t1_size": 0}, ["data.t1_size", "= 0", "at least 1"]),
    (DataConfig, {"t2_size": -3}, ["data.t2_size", "-3", "at least 1"]),
    (DataConfig, {"test_size": 0}, ["data.test_size", "= 0", "at least 1"]),
    (DataConfig, {"split_seed": -1}, ["data.split_seed", "-1", "at least 0"]),
    (
        DataConfig,
        {"split_seed": 2**63},
        ["data.split_seed", "9223372036854775808", "at most 9,223,372,036,854,775,807"],
    ),
    (DataConfig, {"name": "..m:f"}, ["data.name", "'..m:f'", "'module:attribute'"]),
    (DataConfig, {"root": "/data\0"}, ["data.root", "control characters"]),
    (DataConfig, {"normalise": "whiten"}, ["data.normalise", "'whiten'", "'unit', 'standardise'"]),
    (ModelConfig, {"name": "transformer"}, ["models.name", "'transformer'", "'mlp', 'cnn' or 'module:function'"]),
    (ModelConfig, {"hidden": (5, 0)}, ["models.hidden", "(5, 0)", "at least 1"]),
    (ModelConfig, {"hidden": (10**30,)}, ["models.hidden", "(1000000000", "at most 1,000,000"]),
    (ModelConfig, {"hidden": (10**8,)}, ["models.hidden", "(100000000,)", "at most 1,000,000"]),
    (ModelConfig, {"hidden": (1,) * 1001}, ["models.hidden", "of at most 1,000 entries"]),
    (ModelConfig, {"name": ":"}, ["models.name", "':'", "'module:attribute'"]),
    (ModelConfig, {"hidden": (64.0,)}, ["models.hidden", "(64.0,)", "whole numbers"]),
    (ModelConfig, {"hidden": (64, "32")}, ["models.hidden", "(64, '32')", "whole numbers"]),
    (ModelConfig, {"hidden": (True,)}, ["models.hidden", "(True,)", "whole numbers"]),
    (ModelConfig, {"hidden": 64}, ["models.hidden", "= 64", "whole numbers"]),
    (ModelConfig, {"hidden": "64"}, ["models.hidden", "'64'", "whole numbers"]),
    (ModelConfig, {"channels": (8, math.nan)}, ["models.channels", "(8, nan)", "whole numbers"]),
    (ModelConfig, {"channels": (False,)}, ["models.channels", "(False,)", "whole numbers"]),
    (ModelConfig, {"channels": ()}, ["models.channels", "()", "one or more"]),
    (ModelConfig, {"channels": (0,)}, ["models.channels", "(0,)", "at least 1"]),
    (ModelConfig, {"batch_norm": True}, ["models.batch_norm", "True", "false for name = 'mlp'"]),
    (ModelConfig, {"activation": "gelu"}, ["models.activation", "'gelu'", "'relu', 'tanh'"]),
    (Range, {"low": 1.0, "high": 0.5}, ["[low, high]", "[1.0, 0.5]", "low < high"]),
    (Range, {"low": 0.5, "high": 0.5}, ["[low, high]", "[0.5, 0.5]", "low < high"]),
    (Range, {"low": 0.0, "high": 5e-324}, ["[low, high]", "[0.0, 5e-324]", "at least 1e-09 apart"]),
    (Range, {"low": 0.0, "high": 1e308}, ["hyperparameters.high", "1e+308", "at most 1e+06"]),
    (Range, {"low": -math.inf, "high": 0.5}, ["hyperparameters", "-inf", "finite"]),
    (Range, {"low": 0.0, "high": math.nan}, ["hyperparameters", "nan", "finite"]),
    (Range, {"low": -1.0, "high": 1.0, "coordinate": "variance"}, ["low", "-1.0", "at least 0", "variance"]),
    (Range, {"low": 0.0, "high": 1.0, "learning_rate": -0.1}, ["learning_rate", "-0.1", "at least 0"]),
    (Range, {"low": 0.0, "high": 1.0, "learning_rate": math.inf}, ["learning_rate", "inf", "finite"]),
    (Range, {"low": 0.0, "high": 1.0, "scope": "neuron"}, ["scope", "'neuron'", "'tied', 'layer', 'group'"]),
    (Range, {"low": 0.0, "high": 1.0, "coordinate": "log"}, ["coordinate", "'log'", "'value', 'variance'"]),
    (HyperparameterConfig, {"log10_l2": Range(-5.0, 400.0)}, ["log10_l2.high", "400.0", "at most 308"]),
    (
        HyperparameterConfig,
        {"log10_l2": Range(0.0, 1.0, coordinate="variance")},
        ["log10_l2.coordinate", "'variance'", "'value'", "standard deviations"],
    ),
    (
        HyperparameterConfig,
        {"label_smoothing": Range(0.0, 0.5, coordinate="log_variance")},
        ["label_smoothing.coordinate", "'log_variance'", "'value'"],
    ),
    *(
        (HyperparameterConfig, {"custom": {key: BOX}}, ["hyperparameters.custom", repr(key), "'module:attribute'"])
        for key in (":", ":f", "..m:f", ".:x", "m:", "m:f:g", "m.1:f", "m: f", "")
    ),
    (HyperparameterConfig, {"input_noise_std": Range(-0.1, 0.5)}, ["input_noise_std.low", "-0.1", "at least 0"]),
    (HyperparameterConfig, {"hidden_noise_std": Range(-0.1, 0.5)}, ["hidden_noise_std.low", "-0.1", "at least 0"]),
    (HyperparameterConfig, {"label_smoothing": Range(0.0, 1.0)}, ["label_smoothing", "high=1.0", "[0, 1)"]),
    (HyperparameterConfig, {"label_smoothing": Range(-0.1, 0.5)}, ["label_smoothing", "low=-0.1", "[0, 1)"]),
    (
        HyperparameterConfig,
        {"input_noise_std": Range(0, 1, scope="layer")},
        ["input_noise_std.scope", "'layer'", "'tied'"],
    ),
    (HyperparameterConfig, {"label_smoothing": Range(0, 0.5, scope="layer")}, ["label_smoothing.scope", "'tied'"]),
    (
        HyperparameterConfig,
        {"hidden_noise_std": Range(0, 1, scope="group")},
        ["hidden_noise_std.scope", "'group'", "'tied' or 'layer'"],
    ),
    (HyperparameterConfig, {"log10_l2": Range(-5, -2, scope="group")}, ["l2_groups", "{}", "if, and only if"]),
    (HyperparameterConfig, {"l2_groups": {"a": ("*",)}}, ["l2_groups", "'a'", "if, and only if"]),
    (HyperparameterConfig, {"custom": {"flip": BOX}}, ["hyperparameters.custom", "'flip'", "module:attribute"]),
    (
        HyperparameterConfig,
        {"custom": {"my:flip": Range(0, 1, scope="layer")}},
        ["hyperparameters.custom.my:flip.scope", "'layer'", "'tied'"],
    ),
    (InnerConfig, {"learning_rate": 0.0}, ["inner.learning_rate", "= 0.0", "at least 1e-12 and at most 1e+06"]),
    (InnerConfig, {"learning_rate": 1e308}, ["inner.learning_rate", "= 1e+308", "at most 1e+06"]),
    (InnerConfig, {"learning_rate": math.inf}, ["inner.learning_rate", "= inf", "finite"]),
    (InnerConfig, {"steps": 0}, ["inner.steps", "= 0", "at least 1"]),
    (InnerConfig, {"steps": 10**30}, ["inner.steps", "= 1000000000000", "at most 1,000,000,000"]),
    (InnerConfig, {"steps": 2.5}, ["inner.steps", "2.5", "whole number"]),
    (InnerConfig, {"steps": "5"}, ["inner.steps", "'5'", "whole number"]),
    (InnerConfig, {"batch_size": 0}, ["inner.batch_size", "= 0", "at least 1"]),
    (InnerConfig, {"anneal_fraction": 1.1}, ["inner.anneal_fraction", "1.1", "[0, 1]"]),
    (InnerConfig, {"momentum": 1.0}, ["inner.momentum", "1.0", "[0, 1)"]),
    (InnerConfig, {"betas": (0.9, 1.0)}, ["inner.betas", "(0.9, 1.0)", "[0, 1)"]),
    (InnerConfig, {"epsilon": 0.0}, ["inner.epsilon", "= 0.0", "at least 1e-30"]),
    (InnerConfig, {"optimiser": "rmsprop"}, ["inner.optimiser", "'rmsprop'", "'sgd', 'momentum', 'adam'"]),
    (InnerConfig, {"schedule": "step"}, ["inner.schedule", "'step'", "'constant', 'linear', 'cosine'"]),
    (OuterConfig, {"estimator": "exact"}, ["outer.estimator", "'exact'", "'t1t2'", "'forward'"]),
    (OuterConfig, {"optimiser": "momentum"}, ["outer.optimiser", "'momentum'", "'sgd', 'adam'"]),
    (OuterConfig, {"schedule": "step"}, ["outer.schedule", "'step'", "'constant', 'linear', 'cosine'"]),
    (OuterConfig, {"every": 0}, ["outer.every", "= 0", "at least 1"]),
    (OuterConfig, {"betas": (-0.1, 0.9)}, ["outer.betas", "(-0.1, 0.9)", "[0, 1)"]),
    (OuterConfig, {"epsilon": 0.0}, ["outer.epsilon", "= 0.0", "at least 1e-30"]),
    (OuterConfig, {"anneal_fraction": -0.1}, ["outer.anneal_fraction", "-0.1", "[0, 1]"]),
    (OuterConfig, {"warmup_steps": -1}, ["outer.warmup_steps", "-1", "at least 0"]),
    (OuterConfig, {"batch_size": -1}, ["outer.batch_size", "-1", "at least 0"]),
    (OuterConfig, {"memory": 1.01}, ["outer.memory", "1.01", "[0, 1]"]),
    (OuterConfig, {"tangent_batch": -1}, ["outer.tangent_batch", "-1", "at least 0"]),
    (OuterConfig, {"tangent_every": 0}, ["outer.tangent_every", "= 0", "at least 1"]),
    (OuterConfig, {"look_back": -1}, ["outer.look_back", "-1", "at least 0"]),
    (TrainConfig, {"record_every": 0}, ["record_every", "= 0", "at least 1"]),
    (TrainConfig, {"inner": InnerConfig(steps=10**9), "record_every": 1}, ["record_every", "= 1", "at least 1,000"]),
    (
        TrainConfig,
        {"model": ModelConfig(hidden=(10**6, 10**6))},
        ["models.hidden", "[1000000, 1000000]", "7.3 TiB", "at most 1 TiB"],
    ),
    (
        TrainConfig,
        {"model": ModelConfig("cnn", channels=(10**6, 10**6))},
        ["models.channels", "[1000000, 1000000]", "at most 1 TiB"],
    ),
    (TrainConfig, {"dtype": "float16"}, ["dtype", "'float16'", "'float32', 'float64'"]),
    (TrainConfig, {"inner": InnerConfig(batch_size=1001)}, ["inner.batch_size", "1001", "data.t1_size = 1000"]),
    (TrainConfig, {"outer": OuterConfig(batch_size=398)}, ["outer.batch_size", "398", "data.t2_size = 397"]),
]


@pytest.mark.parametrize(("kind", "settings", "parts"), REFUSED, ids=[f"{k.__name__}-{s}" for k, s, _ in REFUSED])
def test_a_refusal_names_the_value_what_is_allowed_and_where(
    kind: type, settings: dict[str, object], parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**settings)
    for part in parts:
        assert part in str(caught.value)


NUMBERS = [
    (where, setting.name)
    for where, table in KINDS.items()
    for setting in settings_of(table)
    if setting.kind in (int, float)
]


def test_the_tables_have_numbers() -> None:
    assert len(NUMBERS) == 20


@pytest.mark.parametrize(("where", "name"), NUMBERS, ids=[".".join(n) for n in NUMBERS])
@pytest.mark.parametrize("value", ["1", None, True, math.nan, math.inf, -math.inf, [1]], ids=str)
def test_no_number_may_be_anything_else(where: str, name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        KINDS[where](**{name: value})
    assert f"{where}.{name} = {value!r}" in str(caught.value)


@given(value=st.floats())
def test_a_learning_rate_is_any_number_within_its_limits(value: float) -> None:
    if 1e-12 <= value <= 1e6:
        assert InnerConfig(learning_rate=value).learning_rate == value
    else:
        with pytest.raises(ConfigError, match=r"inner\.learning_rate"):
            InnerConfig(learning_rate=value)


@given(low=st.floats(), high=st.floats())
def test_a_box_is_finite_and_not_empty(low: float, high: float) -> None:
    if max(abs(low), abs(high)) <= 1e6 and high - low >= 1e-9:
        assert (Range(low, high).low, Range(low, high).high) == (low, high)
    else:
        with pytest.raises(ConfigError, match="hyperparameters"):
            Range(low, high)


def test_whole_numbers_may_stand_for_others() -> None:
    assert Range(0, 1).high == 1
    assert InnerConfig(learning_rate=1).learning_rate == 1


@pytest.mark.parametrize(
    ("model", "label"),
    [
        (ModelConfig(), "mlp-64"),
        (ModelConfig(hidden=(200, 100)), "mlp-200-100"),
        (ModelConfig(hidden=()), "mlp"),
        (ModelConfig("cnn"), "cnn-8-16"),
        (ModelConfig("cnn", channels=(4,), batch_norm=True), "cnn-4-bn"),
        (ModelConfig("package.module:function"), "package.module:function"),
    ],
)
def test_a_model_has_a_name_in_tables(model: ModelConfig, label: str) -> None:
    assert model.label == label


ILL_TYPED: list[tuple[type, dict[str, Any], str]] = [
    (DataConfig, {"root": 3}, "data.root = 3: must be a string or None"),
    (InnerConfig, {"betas": (0.9,)}, "inner.betas = (0.9,): must be a list of finite numbers"),
    (InnerConfig, {"learning_rate": 10**400}, "characters): must be a finite number"),
    (OuterConfig, {"antithetic": 1}, "outer.antithetic = 1: must be true or false"),
    (HyperparameterConfig, {"log10_l2": (-5, -2)}, "hyperparameters.log10_l2 = (-5, -2): must be a Range or None"),
    (HyperparameterConfig, {"custom": {"my:flip": 1}}, "{'my:flip': 1}: must be a table of Range objects"),
    (TrainConfig, {"inner": None}, "inner = None: must be a InnerConfig"),
]


@pytest.mark.parametrize(("kind", "settings", "message"), ILL_TYPED, ids=[m for _, _, m in ILL_TYPED])
def test_a_value_of_another_type_is_refused(kind: type, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**settings)
    assert message in str(caught.value)


@pytest.mark.parametrize("table", [*KINDS.values(), Range, HyperparameterConfig], ids=lambda table: table.__name__)
def test_every_setting_says_what_it_means_in_one_line(table: type) -> None:
    for setting in settings_of(table):
        assert setting.meaning, setting.name
        assert "\n" not in setting.meaning


def test_settings_cannot_be_changed_once_made() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().record_every = 5  # type: ignore[misc]


def test_a_configuration_error_is_a_value_error() -> None:
    assert issubclass(ConfigError, ValueError)
