"""What the stack of perceptrons computes of a whole set, and its initial weights."""

from __future__ import annotations

import math

import pytest
import torch

from tests.trainers.networks.perceptron.cases import KINDS, assert_close, case, each_activation
from trainers.config import HyperparameterConfig, ModelConfig
from trainers.hyperparameters import lay_out
from trainers.networks.perceptron.network import StackedMLP, parameters_of


@each_activation
def test_evaluation_in_chunks_is_the_clean_loss_and_the_share_of_wrong_answers(
    activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = case(4, activation, (5,), KINDS["all tied"], batch=11)
    x, y = c.x[0], c.y[0]
    for rows in (8192, 8):  # all at once; four examples a chunk and three in the last
        monkeypatch.setattr("trainers.networks.perceptron.network.EVALUATION_ROWS", rows)
        loss, error = c.network.evaluate(c.theta, x, y)
        for member in (0, 1):
            (w1, b1), (w2, b2) = c.parts(c.theta[member])
            hidden = torch.relu(x @ w1.T + b1) if activation == "relu" else torch.tanh(x @ w1.T + b1)
            logits = hidden @ w2.T + b2
            assert_close(loss[member], torch.nn.functional.cross_entropy(logits, y))
            assert error[member] == pytest.approx(int((logits.argmax(1) != y).sum()) / 11)


def test_initial_weights_are_uniform_as_those_of_torchs_linear_layers() -> None:
    layout = lay_out(HyperparameterConfig(), parameters_of(100, (50,), 10), 1)
    network = StackedMLP(ModelConfig(hidden=(50,)), 100, 10, layout)
    theta = network.initial(3)
    assert theta.dtype == torch.float64
    assert [(p.name, p.shape, p.layer) for p in network.parameters] == [
        ("1.weight", (50, 100), 1),
        ("1.bias", (50,), 1),
        ("2.weight", (10, 50), 2),
        ("2.bias", (10,), 2),
    ]
    for parameter, fan_in in zip(network.parameters, (100, 100, 50, 50), strict=True):
        values, bound = theta[parameter.start : parameter.stop], 1 / math.sqrt(fan_in)
        assert values.abs().max() <= bound
        assert values.abs().max() > 0.8 * bound
        spread = bound / math.sqrt(3)
        assert abs(values.mean()) < 5 * spread / math.sqrt(len(values))
        torch.manual_seed(0)
        reference = torch.nn.Linear(fan_in, 1000).weight
        assert reference.abs().max() <= bound
        assert reference.abs().max() > 0.99 * bound
    assert torch.equal(network.initial(3), theta)
    assert not torch.equal(network.initial(4), theta)


def test_the_views_of_a_vector_are_its_layers_without_a_copy() -> None:
    network = case(1, "relu", (5, 4), KINDS["all tied"]).network
    flat = torch.arange(2.0 * network.size).view(2, -1)
    layers = network.views(flat)
    assert [(tuple(weight.shape), tuple(bias.shape)) for weight, bias in layers] == [
        ((2, 5, 4), (2, 5)),
        ((2, 4, 5), (2, 4)),
        ((2, 3, 4), (2, 3)),
    ]
    assert torch.equal(torch.cat([part.flatten(1) for layer in layers for part in layer], 1), flat)
    layers[1][0].zero_()
    assert (flat == 0).sum() == 1 + 2 * 20  # the first entry was 0
