"""Small float64 problems with images, the models that a user might bring, and differences of real trainings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.trainers.problems import ONE_STEP, PLAIN, random_split
from trainers import Member, Point, Problem, TrainConfig, train
from trainers.config import DataConfig, HyperparameterConfig, InnerConfig, ModelConfig, OuterConfig, Range
from trainers.data.split import Split
from trainers.networks.base import Network

STEP = 1e-5  # of the central differences
ALL_KINDS = HyperparameterConfig(
    log10_l2=Range(-5.5, 0.0, scope="layer"),
    hidden_noise_std=Range(0.0, 0.8, scope="layer"),
    label_smoothing=Range(0.0, 0.5),
)


def image_split(seed: int = 0, shape: tuple[int, ...] = (1, 4, 4), classes: int = 3) -> Split:
    """Gaussian images with random labels."""
    return random_split(seed, shape, classes)


def image_config(
    model: ModelConfig,
    hyperparameters: HyperparameterConfig | None = None,
    inner: Mapping[str, object] | None = None,
    outer: Mapping[str, object] | None = None,
    record_every: int = 1,
) -> TrainConfig:
    """Batches of 8 of 24 images, the whole of T2 in every outer step."""
    return TrainConfig(
        data=DataConfig(t1_size=24, t2_size=13, test_size=10),
        model=model,
        hyperparameters=hyperparameters or HyperparameterConfig(),
        inner=InnerConfig(**(ONE_STEP | dict(inner or {}))),
        outer=OuterConfig(**(PLAIN | dict(outer or {}))),
        record_every=record_every,
        dtype="float64",
    )


def small_cnn(batch_norm: bool = False, activation: str = "tanh") -> ModelConfig:
    """Two stages, for images of 4×4."""
    return ModelConfig("cnn", channels=(2, 3), batch_norm=batch_norm, activation=activation)  # type: ignore[arg-type]


def users(function: str) -> ModelConfig:
    """The model that a function below returns."""
    return ModelConfig(f"tests.trainers.images:{function}")


def middle(problem: Problem) -> dict[str, float]:
    """The middle of every box."""
    return {n: (box.low + box.high) / 2 for n, box in zip(problem.layout.names, problem.layout.ranges, strict=True)}


def last_point(problem: Problem, config: TrainConfig, values: dict[str, float], online: bool) -> Point:
    """Of a training with seed 7."""
    return [r for r in train(problem, config, [Member(7, values)], online=online) if isinstance(r, Point)][-1]


def differences(problem: Problem, config: TrainConfig, values: dict[str, float]) -> dict[str, float]:
    """dC2/dh of a whole training with fixed hyperparameters, by central differences of its T2 loss."""
    out = {}
    for name, value in values.items():
        moved = [values | {name: value + by} for by in (STEP, -STEP)]
        above, below = (last_point(problem, config, at, online=False).t2_loss for at in moved)
        out[name] = (above - below) / (2 * STEP)
    return out


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What the methods of a network are called with, for P members on the T2 of a problem."""

    theta: Tensor  # [P, N]
    h: Tensor  # [P, H]
    z: Tensor  # [P, H, N]
    noise: list[Tensor | None]  # [P, M, ...] each

    @classmethod
    def drawn(cls, problem: Problem, members: int) -> Arguments:
        """Normal directions and noise, and initial weights."""
        draw, network, like = torch.Generator().manual_seed(0), problem.network, problem.t1[0].cpu()

        def normal(*shape: int) -> Tensor:
            return torch.randn(members, *shape, generator=draw, dtype=like.dtype)

        columns, rows = len(problem.layout.names), len(problem.t2[1])
        return cls(
            theta=torch.stack([network.initial(seed) for seed in range(members)]).to(like.dtype),
            h=torch.rand(members, columns, generator=draw, dtype=like.dtype) / 2,
            z=normal(columns, network.size),
            noise=[None if shape is None else normal(rows, *shape) for shape in network.noise_shapes],
        )

    def of_member(self, place: int) -> Arguments:
        """That one alone."""
        one = slice(place, place + 1)
        noise = [None if drawn is None else drawn[one] for drawn in self.noise]
        return Arguments(theta=self.theta[one], h=self.h[one], z=self.z[one], noise=noise)

    @torch.no_grad()
    def outcomes(self, problem: Problem) -> list[Tensor]:
        """What every method gives, each [P, ...], computed where the problem lies."""
        network, (x, y), rate = problem.network, problem.t2, 0.1
        theta, h, z = (tensor.to(x) for tensor in (self.theta, self.h, self.z))
        xs, ys = x.expand(len(theta), *x.shape), y.expand(len(theta), -1)
        trace = network.linearise(theta, xs, ys, h, [None if drawn is None else drawn.to(x) for drawn in self.noise])
        clean, moved = network.linearise(theta, xs, ys), torch.empty_like(theta)
        network.sgd_step(theta, trace, theta.new_full((len(theta), 1), 0.3), rate, out=moved)
        return [
            network.loss(trace),
            network.loss(clean),
            network.gradient(trace),
            network.gradient(clean),
            moved,
            network.dots(theta, network.direction(z[:, 0])),
            network.mixed_vjp(trace, network.direction(z[:, 0])),
            tangent(network, trace, z, 6, h),
            tangent(network, trace, z[:, :1], len(y), None),
            *network.evaluate(theta, x, y),
        ]


def tangent(network: Network, trace: Any, z: Tensor, examples: int, direct: Tensor | None) -> Tensor:
    """Of directions for every column."""
    out = torch.full_like(z, torch.nan)
    network.tangent(trace, z, examples, columns=tuple(range(z.shape[1])), direct=direct, out=out)
    return out


class Residual(nn.Module):
    """What a user may write: a skip connection, a group normalisation, a constant, parameters of its own."""

    noise_sites = ("inner.0",)
    offset: Tensor

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))
        self.register_buffer("offset", torch.linspace(-1, 1, inputs))
        self.inner = nn.Sequential(nn.Linear(inputs, 6), nn.GroupNorm(1, 6), nn.SiLU(), nn.Linear(6, inputs))
        self.out = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1) + self.offset
        out: Tensor = self.gain * self.out(x + self.inner(x))
        return out


def residual(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return Residual(int(np.prod(input_shape)), classes)


def with_batch_norm(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Batch normalisation of vectors, twice, one of them in use at two places."""
    shared = nn.BatchNorm1d(5)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(int(np.prod(input_shape)), 5),
        shared,
        nn.Tanh(),
        nn.Linear(5, 5),
        shared,
        nn.Tanh(),
        nn.BatchNorm1d(5, affine=False, eps=1e-3),
        nn.Linear(5, classes),
    )
