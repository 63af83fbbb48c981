"""Regularisers of a user's own: differentiable augmentations, a penalty, softened targets, and some that are none."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.hyperparameters import Regulariser


def jitter_contrast(x: Tensor, value: Tensor, noise: Tensor) -> Tensor:
    """Each image's contrast times 1 + value · ε, about its own mean; one ε an image."""
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (1 + value * noise[:, :1, :1, :1])


def jitter_brightness(x: Tensor, value: Tensor, noise: Tensor) -> Tensor:
    """value · ε added to all pixels of an image; one ε an image."""
    return x + value * noise[:, :1, :1, :1]


def translate(x: Tensor, value: Tensor, noise: Tensor) -> Tensor:
    """Each image moved by value · ε pixels in both directions, with linear interpolation; zeros come in."""
    shift = value * noise[:, 0, 0, :2]

    def interpolation(by: Tensor, side: int) -> Tensor:
        place = torch.arange(side, dtype=x.dtype, device=x.device)
        return torch.relu(1 - (place[:, None] - place - by[:, None, None]).abs())

    rows, columns = (interpolation(shift[:, axis], x.shape[2 + axis]) for axis in (0, 1))
    return torch.einsum("bij,bcjk,blk->bcil", rows, x, columns)


def quartic(parameters: dict[str, Tensor], value: Tensor) -> Tensor:
    """value · Σ θ⁴ over the weights, biases left out."""
    return value * sum((p.pow(4).sum() for name, p in parameters.items() if name.endswith("weight")), torch.zeros(()))


def sharpen(q: Tensor, value: Tensor) -> Tensor:
    """Targets to the power 1 - value, normalised; with label smoothing they are not one-hot."""
    powered = q.pow(1 - value)
    return powered / powered.sum(1, keepdim=True)


contrast = Regulariser(augment=jitter_contrast)
brightness = Regulariser(augment=jitter_brightness)
translation = Regulariser(augment=translate)
weights4 = Regulariser(penalty=quartic)
temper = Regulariser(targets=sharpen)
everything = Regulariser(augment=jitter_brightness, targets=sharpen, penalty=quartic)

rounded = Regulariser(augment=lambda x, value, noise: x + torch.round(value * noise))
detached = Regulariser(augment=lambda x, value, noise: x + value.detach() * noise)
apart_from_theta = Regulariser(penalty=lambda parameters, value: value.square())
undefined = Regulariser(penalty=lambda parameters, value: quartic(parameters, torch.sqrt(value - 10)))
branching = Regulariser(augment=lambda x, value, noise: x * 2 if value > 0.5 else x)
wrong_shape = Regulariser(augment=lambda x, value, noise: (x + value * noise)[:, :, 1:])
wrong_scalar = Regulariser(penalty=lambda parameters, value: value * next(iter(parameters.values())))
nonrandom = Regulariser(augment=lambda x, value, noise: x + value * torch.randn_like(x))
