"""The forward and the backward pass of stacked perceptrons against autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from tests.trainers.networks.perceptron.cases import (
    KINDS,
    assert_close,
    case,
    each_activation,
    each_kind,
    seeds,
    widths,
)
from trainers.config import HyperparameterConfig
from trainers.networks.perceptron.trace import label_slope, linearise, log_softmax, softmax


def normal(draw: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


@each_activation
def test_a_trace_has_every_layers_input_slope_and_delta(activation: str) -> None:
    draw = torch.Generator().manual_seed(1)
    layers = [(normal(draw, 2, 4, 3), normal(draw, 2, 4)), (normal(draw, 2, 3, 4), normal(draw, 2, 3))]
    x, labels = normal(draw, 2, 5, 3), torch.randint(3, (2, 5), generator=draw)
    noise, stds = [normal(draw, 2, 5, 3), normal(draw, 2, 5, 4)], [normal(draw, 2, 1, 1), normal(draw, 2, 1, 1)]
    found = linearise(
        layers, activation, x=x, labels=labels, noise=noise, stds=stds, smoothing=None, mirrored=False, overwrite=False
    )

    first = x + stds[0] * noise[0]
    z = (first @ layers[0][0].mT + layers[0][1].unsqueeze(1)).requires_grad_()
    phi = torch.relu(z) if activation == "relu" else torch.tanh(z)
    second = phi + stds[1] * noise[1]
    logits = second @ layers[1][0].mT + layers[1][1].unsqueeze(1)
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)
    (slope,) = torch.autograd.grad(phi.sum(), z, retain_graph=True)
    deltas = torch.autograd.grad(losses.sum(), (z, logits))
    for ours, wanted in zip(
        [*found.inputs, *found.slopes, *found.activations, *found.deltas, found.logits, found.probabilities],
        [first, second, slope, phi, *deltas, logits, torch.softmax(logits, 2)],
        strict=True,
    ):
        assert_close(ours, wanted.detach())


@each_kind
@each_activation
@given(seed=seeds, hidden=widths)
@settings(max_examples=8)
def test_gradients_are_autograds(
    kinds: HyperparameterConfig, activation: str, seed: int, hidden: tuple[int, ...]
) -> None:
    c = case(seed, activation, hidden, kinds)
    trace = c.trace()
    for member in (0, 1):
        assert_close(c.network.gradient(trace)[member], c.gradient(member)[2].detach())


@each_activation
def test_the_loss_of_a_trace_is_the_cross_entropy_of_the_labels_whatever_the_smoothing(activation: str) -> None:
    c = case(3, activation, (5, 4), KINDS["all tied"])
    trace = c.trace()
    sharp = c.h.clone()
    sharp[:, c.layout.label_smoothing] = 0.0
    wanted = torch.stack([c.loss(member, c.theta[member], sharp[member]) for member in (0, 1)])
    assert_close(c.network.loss(trace), wanted)


def test_without_hyperparameters_a_trace_is_clean() -> None:
    c = case(2, "tanh", (5, 4), KINDS["all tied"])
    clean, regularised = c.network.linearise(c.theta, c.x, c.y), c.trace()
    assert torch.equal(clean.inputs[0], c.x)
    assert not torch.equal(regularised.inputs[0], c.x)
    silent = c.network.linearise(c.theta, c.x, c.y, torch.zeros_like(c.h), c.noise)
    assert_close(silent.logits, clean.logits)


@each_activation
@pytest.mark.parametrize("batch", [1, 2, 5, 6])
@pytest.mark.parametrize("drawn", ["half", "all"])
def test_the_examples_without_noise_of_their_own_take_its_negative(activation: str, batch: int, drawn: str) -> None:
    """Against a trace in which the noise of every example is written out, and is drawn for each."""
    c = case(2, activation, (5, 4), KINDS["all tied"], batch=batch, drawn=batch if drawn == "all" else None)
    written_out = [None if e is None else torch.cat([e, -e], 1)[:, :batch] for e in c.noise]
    found, wanted = c.trace(), c.network.linearise(c.theta, c.x, c.y, c.h, written_out)
    first = c.noise[0]
    assert first is not None
    assert first.shape[1] == (batch if drawn == "all" else (batch + 1) // 2)
    for ours, theirs in zip([*found.inputs, *found.deltas], [*wanted.inputs, *wanted.deltas], strict=True):
        assert torch.equal(ours, theirs)
    assert_close(c.network.gradient(found), c.network.gradient(wanted))
    w = c.network.direction(c.theta.flip(1))
    assert_close(c.network.mixed_vjp(found, w), c.network.mixed_vjp(wanted, w))


@pytest.mark.parametrize("batch", [5, 6])
def test_a_batch_is_written_into_only_where_that_is_allowed(batch: int) -> None:
    c = case(2, "tanh", (5, 4), KINDS["all tied"], batch=batch)
    before, wanted = c.x.clone(), c.trace()
    assert torch.equal(c.x, before)
    found = c.network.linearise(c.theta, c.x, c.y, c.h, c.noise, overwrite=True)
    assert found.inputs[0].data_ptr() == c.x.data_ptr()  # which spares the memory of the widest layer
    assert not torch.equal(c.x, before)
    for ours, theirs in zip([*found.inputs, *found.deltas], [*wanted.inputs, *wanted.deltas], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("classes", [2, 5])
def test_softmax_and_the_slope_of_the_targets(classes: int) -> None:
    draw = torch.Generator().manual_seed(2)
    z, labels = normal(draw, 2, 3, classes), torch.randint(classes, (2, 3), generator=draw)
    assert_close(softmax(z), torch.softmax(z, 2))
    assert_close(log_softmax(z), torch.log_softmax(z, 2))
    onehot = torch.nn.functional.one_hot(labels, classes).double()
    assert_close(label_slope(labels, z), onehot - 1 / classes)
