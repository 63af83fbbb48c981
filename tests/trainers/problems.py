"""Small float64 problems, and an implementation of one training step that shares no code with the package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from trainers.config import (
    DataConfig,
    HyperparameterConfig,
    InnerConfig,
    Kind,
    ModelConfig,
    OuterConfig,
    Range,
    TrainConfig,
)
from trainers.data.split import Split
from trainers.problem import Problem, build_problem

LN10 = 2.302585092994046


def random_split(seed: int, shape: tuple[int, ...] = (6,), classes: int = 3) -> Split:
    """Gaussian inputs of this shape with random labels."""
    draw = np.random.default_rng(seed)
    parts = [
        (draw.normal(size=(n, *shape)).astype(np.float32), draw.integers(0, classes, n).astype(np.int64))
        for n in (24, 13, 10)
    ]
    (t1_x, t1_y), (t2_x, t2_y), (test_x, test_y) = parts
    return Split(
        t1_x=t1_x,
        t1_y=t1_y,
        t2_x=t2_x,
        t2_y=t2_y,
        test_x=test_x,
        test_y=test_y,
        classes=classes,
        data_hash=f"random-{seed}",
    )


ONE_STEP: dict[str, Any] = {"steps": 1, "batch_size": 8, "learning_rate": 0.3, "schedule": "constant"}
PLAIN: dict[str, Any] = {  # one exact step after each inner step, and no economies where it is ``forward``
    "estimator": "t1t2",
    "every": 1,
    "batch_size": 0,
    "schedule": "constant",
    "carry": get_args(Kind),
    "tangent_batch": 0,
    "tangent_every": 1,
    "antithetic": False,
    "averaging": 0.0,
}


def small_config(
    hidden: tuple[int, ...] = (5, 4),
    activation: str = "tanh",
    inner: Mapping[str, object] | None = None,
    outer: Mapping[str, object] | None = None,
    hyperparameters: HyperparameterConfig | None = None,
    record_every: int = 1,
) -> TrainConfig:
    """Batches of 8 of 24 examples, the whole of T2 in every outer step."""
    return TrainConfig(
        data=DataConfig(t1_size=24, t2_size=13, test_size=10),
        model=ModelConfig(hidden=hidden, activation=activation),  # type: ignore[arg-type]
        hyperparameters=hyperparameters or HyperparameterConfig(),
        inner=InnerConfig(**(ONE_STEP | dict(inner or {}))),
        outer=OuterConfig(**(PLAIN | dict(outer or {}))),
        record_every=record_every,
        dtype="float64",
    )


STILL = HyperparameterConfig(
    log10_l2=Range(-5.5, -2.5, learning_rate=0.0), input_noise_std=Range(0.0, 0.8, learning_rate=0.0)
)  # outer steps that leave everything where it is
ALL_KINDS = HyperparameterConfig(
    log10_l2=Range(-5.5, 0.0, scope="layer"),
    hidden_noise_std=Range(0.0, 0.8, scope="layer"),
    label_smoothing=Range(0.0, 0.5),
)


def small_problem(config: TrainConfig, seed: int = 0) -> Problem:
    """The configuration's network on a random split."""
    return build_problem(config, random_split(seed))


def penalised_loss(
    theta: Tensor,
    shapes: list[tuple[int, ...]],
    x: Tensor,
    y: Tensor,
    noise: Tensor,
    log10_l2: Tensor,
    noise_std: Tensor,
) -> Tensor:
    """C1~ of a tanh perceptron, by autograd's own operations: cross-entropy plus 10^λ θ²/2, λ one for each tensor."""
    return cross_entropy(theta, shapes, x + noise_std * noise, y) + penalty(theta, shapes, log10_l2)


def penalty(theta: Tensor, shapes: list[tuple[int, ...]], log10_l2: Tensor) -> Tensor:
    """Σ_j 10^λ_j θ_j² / 2."""
    parts = theta.split([int(np.prod(shape)) for shape in shapes])
    return sum((10**lam * part.square().sum() / 2 for lam, part in zip(log10_l2, parts, strict=True)), torch.zeros(()))


def cross_entropy(theta: Tensor, shapes: list[tuple[int, ...]], x: Tensor, y: Tensor) -> Tensor:
    """The clean loss of a tanh perceptron."""
    parts = [p.view(shape) for p, shape in zip(theta.split([int(np.prod(s)) for s in shapes]), shapes, strict=True)]
    for weight, bias in zip(parts[:-2:2], parts[1:-2:2], strict=True):
        x = torch.tanh(x @ weight.T + bias)
    return torch.nn.functional.cross_entropy(x @ parts[-2].T + parts[-1], y)
