"""One forward and one backward pass of stacked perceptrons over a batch, and what they leave for later derivatives.

Notation, for each of P members: layer l (from 0) computes z_l = a_l W_lᵀ + b_l. Its input is a_0 = x + n_0 ε_0 or
a_{l+1} = φ(z_l) + n_{l+1} ε_{l+1}. C is the mean cross-entropy of the softmax of the last z with the targets
q = (1 - s)·onehot + s/classes, and δ_l = ∂C/∂z_l.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from trainers.networks.perceptron.mirror import Mirror, mirrored_affine

Layers = list[tuple[Tensor, Tensor]]  # W [M, out, in] and b [M, out] of each layer


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What the two passes leave behind; enough for every further derivative of that batch at that θ."""

    inputs: list[Tensor]  # a_l [P, B, d_l]
    slopes: list[Tensor]  # φ'(z_l) of each hidden layer [P, B, d_{l+1}]
    activations: list[Tensor]  # φ(z_l), before noise
    deltas: list[Tensor]  # δ_l [P, B, d_{l+1}]
    logits: Tensor  # the last z [P, B, classes]
    probabilities: Tensor  # their softmax
    labels: Tensor  # [P, B]
    noise: list[Tensor | None]  # ε_l [P, M, d_l] of the first M examples; the others have -ε_l
    layers: Layers  # views of the θ that it was taken at
    activation: str
    mirror: Mirror | None  # if there is one, inputs[0] is x with ε below it; all else is of x + n ε and x - n ε


def linearise(
    layers: Layers,
    activation: str,
    *,
    x: Tensor,
    labels: Tensor,
    noise: Sequence[Tensor | None],
    stds: Sequence[Tensor | None],
    smoothing: Tensor | None,
    mirrored: bool,
    overwrite: bool,
) -> Trace:
    """Trace a batch x [P, B, d] with labels [P, B].

    ``noise`` has ε_l [P, M, d_l] and ``stds`` n_l [P, 1, 1] of each layer, None where it takes no noise; the examples
    beyond the first M take -ε_l. ``smoothing`` is s [P, 1, 1]. ``mirrored`` takes each example a second time with -ε;
    there M = B. ``overwrite`` allows that x is written into.
    """
    a, mirror = x, None
    if mirrored:
        labels = torch.cat([labels, labels], 1)
        a = torch.cat([x, x if noise[0] is None else noise[0]], 1)
    inputs, slopes, activations = [], [], []
    for layer, ((weight, bias), epsilon, std) in enumerate(zip(layers, noise, stds, strict=True)):
        z = None
        if epsilon is not None and std is not None:
            if mirrored and layer == 0:
                z, mirror = mirrored_affine(a, std, weight, bias)
            else:
                a = _noisy(a, epsilon, std, overwrite=overwrite and layer == 0)
        inputs.append(a)
        if layer == len(layers) - 1:
            logits = logits_of(a, weight, bias) if z is None else z
        else:
            a, slope = _activated(affine(a, weight, bias) if z is None else z, activation)
            slopes.append(slope)
            activations.append(a)
    probabilities = softmax(logits)
    return Trace(
        inputs=inputs,
        slopes=slopes,
        activations=activations,
        deltas=_deltas(layers, slopes, probabilities, labels, smoothing),
        logits=logits,
        probabilities=probabilities,
        labels=labels,
        noise=list(noise),
        layers=layers,
        activation=activation,
        mirror=mirror,
    )


def _noisy(a: Tensor, epsilon: Tensor, std: Tensor, *, overwrite: bool) -> Tensor:
    """a + n ε, where the examples beyond those of ``epsilon`` take -ε; ``overwrite``: in the place of a."""
    half, out = epsilon.shape[1], a if overwrite else a.new_empty(a.shape)
    torch.addcmul(a[:, :half], epsilon, std, out=out[:, :half])
    if rest := a.shape[1] - half:
        torch.addcmul(a[:, half:], epsilon[:, :rest], std, value=-1, out=out[:, half:])
    return out


def _activated(z: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """φ(z), in the place of z, and φ'(z)."""
    if activation == "relu":
        a = z.relu_()
        return a, a.sign()
    a = z.tanh_()
    return a, 1 - a * a


def _deltas(
    layers: Layers, slopes: list[Tensor], probabilities: Tensor, labels: Tensor, smoothing: Tensor | None
) -> list[Tensor]:
    """δ_l of every layer, by the backward pass."""
    minus_ones = _minus_one(probabilities.dtype, probabilities.device).expand(*labels.shape, 1)
    delta = probabilities.scatter_add(2, labels.unsqueeze(2), minus_ones)
    if smoothing is not None:
        delta.addcmul_(label_slope(labels, probabilities), smoothing)
    delta.div_(labels.shape[1])
    deltas = [delta]
    for layer in range(len(layers) - 1, 0, -1):
        delta = torch.bmm(delta, layers[layer][0]).mul_(slopes[layer - 1])
        deltas.append(delta)
    return deltas[::-1]


@cache
def _minus_one(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Made once, because making a tensor of a number takes longer than adding it."""
    return torch.tensor(-1.0, dtype=dtype, device=device)


def affine(a: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """a Wᵀ + b, [P, B, out]."""
    return torch.baddbmm(bias.unsqueeze(1), a, weight.transpose(1, 2))


def logits_of(a: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same of the last layer, laid out in memory with the examples last, as :func:`softmax` wants it."""
    return torch.baddbmm(bias.unsqueeze(2), weight, a.transpose(1, 2)).transpose(1, 2)


def softmax(z: Tensor) -> Tensor:
    """Over the classes. Torch's is several times quicker across a long inner dimension than along a short last one."""
    return torch.softmax(z.transpose(1, 2), 1).transpose(1, 2)


def log_softmax(z: Tensor) -> Tensor:
    """The logarithm of :func:`softmax`, for the same reason not along the last dimension."""
    return torch.log_softmax(z.transpose(1, 2), 1).transpose(1, 2)


def label_slope(labels: Tensor, logits: Tensor) -> Tensor:
    """-∂q/∂s = onehot - 1/classes, [P, B, classes]."""
    classes = logits.shape[2]
    share = 1 / classes
    return logits.new_full((*labels.shape, classes), -share).scatter_(2, labels.unsqueeze(2), 1 - share)
