"""Which hyperparameters a configuration has, where each acts, and the L2 penalty against its definition."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainers.problems import ALL_KINDS, small_config, small_problem
from tests.trainers.runs import points, run
from trainers import ConfigError, Member, Point, TrainConfig, boxes, train
from trainers.config import HyperparameterConfig, ModelConfig, Range
from trainers.hyperparameters import (
    Layout,
    Regulariser,
    lay_out,
    load_regulariser,
    penalty_direction,
    penalty_hypergradient,
    penalty_strength,
    penalty_strengths,
)
from trainers.networks.perceptron.network import parameters_of

BOX, L2 = Range(0.0, 0.5), Range(-5.5, -2.5)
PARAMETERS = parameters_of(4, (3, 5), 2)  # 15, 20 and 12 entries in its three layers
GROUPS: dict[str, tuple[str, ...]] = {"weights": ("*.weight",), "last_bias": ("3.bias",)}
SCOPES = {
    "tied": HyperparameterConfig(log10_l2=L2),
    "layer": HyperparameterConfig(log10_l2=Range(-5.5, -2.5, scope="layer")),
    "group": HyperparameterConfig(log10_l2=Range(-5.5, -2.5, scope="group"), l2_groups=GROUPS),
    "none": HyperparameterConfig(log10_l2=None),
}


def names(config: HyperparameterConfig, hidden: tuple[int, ...] = (3, 5)) -> tuple[str, ...]:
    return lay_out(config, parameters_of(4, hidden, 2), len(hidden)).names


def test_columns_are_named_in_one_order() -> None:
    assert names(HyperparameterConfig()) == ("log10_l2", "input_noise_std")
    assert names(ALL_KINDS) == (
        "log10_l2_layer1",
        "log10_l2_layer2",
        "log10_l2_layer3",
        "input_noise_std",
        "hidden_noise_std_layer1",
        "hidden_noise_std_layer2",
        "label_smoothing",
    )
    assert names(SCOPES["group"]) == ("log10_l2_weights", "log10_l2_last_bias", "input_noise_std")
    custom = HyperparameterConfig(
        log10_l2=None, hidden_noise_std=BOX, label_smoothing=BOX, custom={"tests.trainers.regularisers:contrast": BOX}
    )
    assert names(custom) == ("input_noise_std", "hidden_noise_std", "label_smoothing", "contrast")
    assert names(SCOPES["layer"], ()) == ("log10_l2_layer1", "input_noise_std")


def test_boxes_give_each_column_its_range() -> None:
    found = boxes(TrainConfig(hyperparameters=ALL_KINDS, model=ModelConfig(hidden=(3, 5))))
    assert tuple(found) == names(ALL_KINDS)
    assert found["log10_l2_layer2"] == ALL_KINDS.log10_l2
    assert found["hidden_noise_std_layer1"] == ALL_KINDS.hidden_noise_std
    assert found["label_smoothing"] == ALL_KINDS.label_smoothing


def scope_of(column: int | None, layout: Layout) -> set[str]:
    return {p.name for p, c in zip(PARAMETERS, layout.l2, strict=True) if c == column}


def test_a_layer_is_its_weights_with_its_bias_and_the_rest_of_groups_is_free() -> None:
    layer = lay_out(SCOPES["layer"], PARAMETERS, 2)
    assert [scope_of(c, layer) for c in range(3)] == [{f"{n}.weight", f"{n}.bias"} for n in (1, 2, 3)]
    group = lay_out(SCOPES["group"], PARAMETERS, 2)
    assert scope_of(0, group) == {"1.weight", "2.weight", "3.weight"}
    assert scope_of(1, group) == {"3.bias"}
    assert scope_of(None, group) == {"1.bias", "2.bias"}
    assert scope_of(None, lay_out(SCOPES["none"], PARAMETERS, 2)) == {p.name for p in PARAMETERS}


@pytest.mark.parametrize("scope", SCOPES)
@given(seed=st.integers(0, 10_000))
def test_the_penalty_is_that_of_the_slides(scope: str, seed: int) -> None:
    """Ω = Σ_j 10^λ_j θ_j² / 2: its gradient, and that gradient's derivative along w, by autograd."""
    layout = lay_out(SCOPES[scope], PARAMETERS, 2)
    draw = torch.Generator().manual_seed(seed)
    size = PARAMETERS[-1].stop
    theta, w = (torch.randn(2, size, generator=draw, dtype=torch.float64) for _ in range(2))
    h = torch.randn(2, len(layout.names), generator=draw, dtype=torch.float64) - 3
    theta.requires_grad_()
    h.requires_grad_()
    omega = torch.zeros((), dtype=torch.float64)
    for member in (0, 1):
        for parameter, column in zip(PARAMETERS, layout.l2, strict=True):
            if column is not None:
                part = theta[member, parameter.start : parameter.stop]
                omega = omega + 10 ** h[member, column] * part.square().sum() / 2
    zero = 0 * (theta.square().sum() + (theta.sum() * h.sum()))  # everything is used, if only like this
    (gradient,) = torch.autograd.grad(omega + zero, theta, create_graph=True)
    strengths = penalty_strengths(layout, h.detach())
    torch.testing.assert_close(penalty_strength(layout, strengths) * theta.detach(), gradient.detach())
    (wanted,) = torch.autograd.grad((gradient * w).sum(), h)
    dots = torch.stack([(w * theta.detach())[:, p.start : p.stop].sum(1) for p in PARAMETERS], 1)
    torch.testing.assert_close(penalty_hypergradient(layout, strengths, dots), wanted)
    every = range(len(layout.names))
    for columns in [(), *itertools.permutations(every, 1), *itertools.permutations(every, 2), tuple(every)]:
        directions = torch.ones(2, len(columns), size, dtype=torch.float64)
        penalty_direction(layout, columns, strengths, theta.detach(), directions, 0.5)
        added = torch.einsum("phn,pn->ph", directions - 1, w)
        torch.testing.assert_close(added, 0.5 * wanted[:, list(columns)])


@pytest.mark.parametrize("estimator", ["t1t2", "t1t2_at_theta", "t1t2_lagged", "neumann"])
@pytest.mark.parametrize(("dtype", "value"), [("float32", 50.0), ("float64", 400.0)])
def test_a_large_value_of_another_hyperparameter_is_no_exponent(
    dtype: Literal["float32", "float64"], value: float, estimator: str
) -> None:
    """A noise of 50 on pixels from 0 to 255: 10^50 is no float32."""
    kinds = HyperparameterConfig(input_noise_std=Range(0.0, 500.0, learning_rate=0.01))
    config = small_config(inner={"steps": 2}, outer={"estimator": estimator}, hyperparameters=kinds)
    config = replace(config, dtype=dtype)
    start = {"log10_l2": -3.0, "input_noise_std": value}
    path = points(run(small_problem(config), config, [Member(1, start)]))
    assert all(math.isfinite(slope) for slope in path[-1].hypergradient.values())


def test_the_tied_penalty_covers_biases_as_in_the_slides() -> None:
    """One step of a huge penalty on zero data: every parameter shrinks by the same factor 1 - η 10^λ."""
    kinds = HyperparameterConfig(log10_l2=Range(-5.5, 3.0), input_noise_std=None)
    config = small_config(inner={"steps": 2, "learning_rate": 1e-9}, hyperparameters=kinds)
    problem = small_problem(config)
    records = train(problem, config, [Member(3, {"log10_l2": 8.0})], online=False, checkpoint_every=1)
    after = next(r for r in records if not isinstance(r, Point)).tensors["theta"][0]  # type: ignore[union-attr]
    torch.testing.assert_close(after / problem.network.initial(3), torch.full_like(after, 0.9), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            HyperparameterConfig(log10_l2=Range(-5, -2, scope="group"), l2_groups={"a": ("4.*",)}),
            r"hyperparameters.l2_groups.a = \['4.\*'\]: matches no parameter; "
            r"the parameters are \['1.weight', '1.bias'",
        ),
        (
            HyperparameterConfig(log10_l2=Range(-5, -2, scope="group"), l2_groups={"a": ("1.*",), "b": ("*.bias",)}),
            r"hyperparameters.l2_groups.b = \['\*.bias'\]: parameter 1.bias is in two groups; the parameters are",
        ),
        (HyperparameterConfig(log10_l2=None, input_noise_std=None), "hyperparameters: none given; name at least one"),
        (
            HyperparameterConfig(
                custom={"tests.trainers.regularisers:contrast": BOX, "tests.trainers.images:contrast": BOX}
            ),
            r"hyperparameters.custom = 'tests.trainers.images:contrast': cannot be imported "
            r"\(AttributeError: .*no attribute 'contrast'",
        ),
        (
            HyperparameterConfig(custom={"no_such_module:contrast": BOX}),
            r"hyperparameters.custom = 'no_such_module:contrast': cannot be imported "
            r"\(ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (
            HyperparameterConfig(custom={"tests.trainers.regularisers:quartic": BOX}),
            "hyperparameters.custom = 'tests.trainers.regularisers:quartic': must be a "
            "trainers.hyperparameters.Regulariser, not function",
        ),
    ],
)
def test_what_does_not_fit_the_network_is_refused(config: HyperparameterConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lay_out(config, PARAMETERS, 2)


def test_hidden_noise_needs_a_hidden_layer() -> None:
    with pytest.raises(ConfigError, match="hidden_noise_std: this model has no hidden layer"):
        names(HyperparameterConfig(hidden_noise_std=BOX), ())


def test_two_hyperparameters_may_not_share_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_the_users_own.py").write_text(
        "from trainers.hyperparameters import Regulariser\ninput_noise_std = Regulariser(penalty=lambda p, v: v)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = HyperparameterConfig(custom={"of_the_users_own:input_noise_std": BOX})
    assert isinstance(load_regulariser("of_the_users_own:input_noise_std"), Regulariser)
    with pytest.raises(ConfigError, match=re.escape("two share a name: ['log10_l2', 'input_noise_std', 'input_noise_")):
        names(config)
    groups = HyperparameterConfig(log10_l2=replace(BOX, scope="group"), l2_groups={"a": ("1.*",), "A": ("2.*",)})
    with pytest.raises(ConfigError, match="two share a name"):  # in SQL, which the tables are read with
        names(groups)
