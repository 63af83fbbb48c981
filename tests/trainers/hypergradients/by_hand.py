"""Hypergradients found without the package's own: by central differences of the training, and by autograd."""

from __future__ import annotations

import pytest
import torch

from tests.trainers.problems import LN10, cross_entropy, penalised_loss
from trainers import Checkpoint, Member, Point, Problem, TrainConfig, train
from trainers.batches import Order
from trainers.noise import Noise, whole
from trainers.seeding import Stream

STEP = 1e-5  # of the central differences


def last_point(
    problem: Problem, config: TrainConfig, values: dict[str, float], online: bool, resume: Checkpoint | None = None
) -> Point:
    points = [
        r for r in train(problem, config, [Member(7, values)], online=online, resume=resume) if isinstance(r, Point)
    ]
    return points[-1]


def differences(
    problem: Problem, config: TrainConfig, values: dict[str, float], resume: Checkpoint | None = None
) -> dict[str, float]:
    """dC2/dh of the rest of a training whose hyperparameters stay fixed, by central differences of its T2 loss."""
    out = {}
    for column, name in enumerate(values):
        losses = []
        for sign in (1, -1):
            moved = values if resume else values | {name: values[name] + sign * STEP}
            start = resume
            if resume is not None:
                h = resume.tensors["h"].clone()
                h[0, column] += sign * STEP
                start = Checkpoint(resume.step, resume.tensors | {"h": h})
            losses.append(last_point(problem, config, moved, online=False, resume=start).t2_loss)
        out[name] = (losses[0] - losses[1]) / (2 * STEP)
    return out


def checkpoint_at(
    problem: Problem, config: TrainConfig, values: dict[str, float], step: int, online: bool
) -> Checkpoint:
    records = train(problem, config, [Member(7, values)], online=online, checkpoint_every=step)
    return next(r for r in records if isinstance(r, Checkpoint))


def assert_equal(found: dict[str, float], wanted: dict[str, float], rel: float = 1e-6) -> None:
    # The differences themselves carry a rounding error of about 1e-16 / STEP, whatever the size of the derivative.
    assert found == pytest.approx(wanted, rel=rel, abs=2e-10)


class ByHand:
    """θ, batch and noise of the first step of member 7, and the derivatives of that step by autograd."""

    def __init__(self, config: TrainConfig, problem: Problem, values: dict[str, float]) -> None:
        self.rate = config.inner.learning_rate
        self.shapes = [p.shape for p in problem.network.parameters]
        self.theta = problem.network.initial(7).requires_grad_()
        x, y = Order(*problem.t1, [7], Stream.T1_ORDER, 8).at(0)
        (half, *_) = Noise([7], problem.network.noise_shapes, 8, self.theta).at(0)
        assert half is not None
        self.x, self.y, self.noise = x[0], y[0], whole(half, 8)[0]
        self.t2 = problem.t2
        self.lam = torch.full((len(self.shapes),), values["log10_l2"], dtype=torch.float64)
        self.std = torch.tensor(values["input_noise_std"], dtype=torch.float64, requires_grad=True)
        loss = penalised_loss(self.theta, self.shapes, self.x, self.y, self.noise, self.lam, self.std)
        (self.g,) = torch.autograd.grad(loss, self.theta, create_graph=True)
        self.theta_next = (self.theta - self.rate * self.g).detach().requires_grad_()

    def v(self, theta: torch.Tensor) -> torch.Tensor:
        (v,) = torch.autograd.grad(cross_entropy(theta, self.shapes, *self.t2), theta)
        return v

    def closed_form(self, w: torch.Tensor) -> dict[str, float]:
        """-η1 ln10 10^λ <w, θ> and -η1 <w, ∂_n0 ∇θ C1>, the second by a double backward."""
        (mixed,) = torch.autograd.grad((w * self.g).sum(), self.std, retain_graph=True)
        penalty_part = LN10 * 10 ** self.lam[0] * (w * self.theta.detach()).sum()
        return {"log10_l2": float(-self.rate * penalty_part), "input_noise_std": float(-self.rate * mixed)}

    def hessian(self) -> torch.Tensor:
        def loss(theta: torch.Tensor) -> torch.Tensor:
            return penalised_loss(theta, self.shapes, self.x, self.y, self.noise, self.lam, self.std.detach())

        hessian: torch.Tensor = torch.autograd.functional.hessian(loss, self.theta.detach())
        return hessian
