"""Regularisers of a user's own: exact hypergradients, what they do to the batch, and which of them are refused."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from tests.trainers.images import differences, image_config, image_split, last_point, middle, small_cnn
from tests.trainers.runs import results, run
from trainers import ConfigError, Member
from trainers.config import HyperparameterConfig, ModelConfig, Range
from trainers.networks.module.network import StackedModule
from trainers.problem import boxes, build_problem


def reference(name: str) -> str:
    return f"tests.trainers.regularisers:{name}"


def kinds(*names: str, low: float = 0.0, high: float = 0.9, smoothing: Range | None = None) -> HyperparameterConfig:
    custom = {reference(name): Range(low, high) for name in names}
    return HyperparameterConfig(log10_l2=None, input_noise_std=None, label_smoothing=smoothing, custom=custom)


SMOOTHED = Range(0.0, 0.5)  # targets other than one-hot, for a power of them to act on
KINDS = {
    "contrast": kinds("contrast"),
    "translation": kinds("translation", high=2.0),
    "penalty": kinds("weights4"),
    "targets": kinds("temper", smoothing=SMOOTHED),
    "all at once": kinds("everything", "contrast", smoothing=SMOOTHED),
}


@pytest.mark.parametrize("asked", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("model", [small_cnn(batch_norm=True), ModelConfig(hidden=(5,), activation="tanh")])
def test_the_hypergradient_equals_central_differences(asked: HyperparameterConfig, model: ModelConfig) -> None:
    config = image_config(model, asked)
    problem = build_problem(config, image_split())
    values = middle(problem)
    found = last_point(problem, config, values, online=True).hypergradient
    assert found == pytest.approx(differences(problem, config, values), rel=1e-6, abs=2e-10)
    assert all(abs(value) > 1e-6 for value in found.values())


def test_forward_mode_carries_an_augmentation_through_the_whole_training() -> None:
    outer = {"estimator": "forward", "every": 3, "memory": 1.0}
    config = image_config(small_cnn(), kinds("translation", "weights4"), {"steps": 3}, outer, record_every=3)
    problem = build_problem(config, image_split())
    values = middle(problem)
    found = last_point(problem, config, values, online=True).hypergradient
    assert found == pytest.approx(differences(problem, config, values), rel=1e-6, abs=2e-10)


def test_every_augmentation_has_noise_of_its_own_and_clean_batches_have_none() -> None:
    config = image_config(small_cnn(), kinds("brightness", "contrast"))
    network = StackedModule(config, (1, 4, 4), 3, image_split().t1_x, tangents=False)
    assert network.noise_shapes == [None, (1, 4, 4), (1, 4, 4)]
    x, y = torch.randn(1, 8, 1, 4, 4, dtype=torch.float64), torch.zeros(1, 8, dtype=torch.int64)
    theta = network.initial(0).unsqueeze(0)
    h = torch.tensor([[0.5, 0.4]], dtype=torch.float64)
    noise = [None, torch.ones_like(x), torch.zeros_like(x)]  # the second does nothing here
    brighter = network.linearise(theta, x + 0.5, y)
    torch.testing.assert_close(network.linearise(theta, x, y, h, noise).logits, brighter.logits, rtol=1e-12, atol=1e-12)


def test_a_penalty_counts_into_the_gradient_but_not_into_the_recorded_loss() -> None:
    config = image_config(small_cnn(), kinds("weights4"))
    network = StackedModule(config, (1, 4, 4), 3, image_split().t1_x, tangents=False)
    theta = network.initial(0).unsqueeze(0)
    x, y = torch.randn(1, 8, 1, 4, 4, dtype=torch.float64), torch.zeros(1, 8, dtype=torch.int64)
    clean, penalised = network.linearise(theta, x, y), network.linearise(theta, x, y, torch.full((1, 1), 0.7).double())
    assert torch.equal(network.loss(clean), network.loss(penalised))
    wanted = torch.zeros_like(theta)
    for parameter in network.parameters:
        if parameter.name.endswith("weight"):
            part = slice(parameter.start, parameter.stop)
            wanted[:, part] = 4 * 0.7 * theta[:, part] ** 3
    added = network.gradient(penalised) - network.gradient(clean)
    torch.testing.assert_close(added, wanted, rtol=1e-6, atol=1e-12)  # 0.7 in single precision


def test_a_perceptron_keeps_its_hyperparameters_when_a_regulariser_is_added() -> None:
    named = HyperparameterConfig(
        log10_l2=Range(-5.0, -2.0, scope="group"),
        l2_groups={"first": ("1.*",), "rest": ("[2-9].*",)},
        hidden_noise_std=Range(0.0, 0.5, scope="layer"),
        custom={reference("contrast"): Range(0.0, 0.5)},
    )
    config = image_config(ModelConfig(hidden=(5, 4)), named)
    problem = build_problem(config, image_split())
    names = [
        "log10_l2_first",
        "log10_l2_rest",
        "input_noise_std",
        "hidden_noise_std_layer1",
        "hidden_noise_std_layer2",
        "contrast",
    ]
    assert list(problem.layout.names) == list(boxes(config)) == names


def test_an_augmentation_that_hurts_is_tuned_away_from_every_start() -> None:
    outer = {"estimator": "forward", "every": 2}
    asked = HyperparameterConfig(None, None, custom={reference("brightness"): Range(0.0, 2.0, learning_rate=0.05)})
    config = image_config(small_cnn(), asked, {"steps": 100, "learning_rate": 0.2}, outer, record_every=100)
    drawn = image_split()  # random labels and T2 = T1: there is nothing but these very images to learn
    split = replace(drawn, t2_x=drawn.t1_x, t2_y=drawn.t1_y)
    members = [Member(seed, {"brightness": start}) for seed, start in enumerate((0.5, 1.0, 1.5))]
    finals = [result.final["brightness"] for result in results(run(build_problem(config, split), config, members))]
    assert max(finals) < 0.1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rounded", "[0.0, 0.0, 0.0]"),
        ("detached", "[0.0, 0.0, 0.0]"),
        ("apart_from_theta", "[0.0, 0.0, 0.0]"),
        ("undefined", "nan"),
        ("branching", "cannot be differentiated"),
        ("nonrandom", "cannot be differentiated"),
        ("wrong_shape", "augment returned the shape [4, 1, 3, 4]: must be [4, 1, 4, 4]"),
        ("wrong_scalar", "penalty returned the shape [2, 1, 3, 3]: must be []"),
        ("missing", "hyperparameters.custom = 'tests.trainers.regularisers:missing': cannot be imported"),
        ("jitter_contrast", "jitter_contrast': must be a trainers.hyperparameters.Regulariser, not function"),
    ],
)
def test_what_cannot_be_tuned_is_refused_by_name(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(reason)) as caught:
        build_problem(image_config(small_cnn(), kinds(name)), image_split())
    assert name in str(caught.value)
