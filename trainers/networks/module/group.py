"""A batch of the members of a pack that are evaluated together, and the derivatives of their losses.

``vmap`` evaluates the loss of one run (:mod:`trainers.networks.module.loss`) for several members at once, and a small
layer of all of them costs hardly more than that of one. But the convolutions that it makes of theirs are slower on a
CPU than one after the other. There each member of a network with convolutions is a group of its own and is evaluated
as the module is written; what is computed for it then does not depend on the pack at all, to the last bit.

Reverse mode gives gradients, and a second time the mixed derivatives. Forward over reverse mode gives the tangents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, func

from trainers.networks.module.loss import Noise, Parts, RunLoss

EVALUATION_ROWS = 2048  # examples times members in one chunk of an evaluation: bounds its memory


def groups(run_loss: RunLoss, theta: Tensor) -> list[slice]:
    """The members of θ [P, N] that are evaluated together."""
    together = 1 if run_loss.convolutional and theta.device.type == "cpu" else len(theta)
    return [slice(first, first + together) for first in range(0, len(theta), together)]


def parts_of(run_loss: RunLoss, theta: Tensor) -> list[Tensor]:
    """Views of θ [G, N] as the parameter tensors that it is made of, [G, *shape] each."""
    pieces = theta.detach().split_with_sizes(list(run_loss.layout.sizes), 1)
    return [piece.view(-1, *own.shape) for piece, own in zip(pieces, run_loss.parameters, strict=True)]


def flat(parts: Sequence[Tensor]) -> Tensor:
    """[G, N] of what has the shapes of the parameter tensors."""
    return torch.cat([part.flatten(1) for part in parts], 1)


def evaluation(run_loss: RunLoss, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Clean mean cross-entropy and error [G] of one group, θ [G, N], on shared data x [M, ...], y [M]."""
    rows = max(1, EVALUATION_ROWS // len(theta))

    def of_member(run_loss: RunLoss, theta: Parts) -> tuple[Tensor, Tensor]:
        return run_loss.evaluation(theta, x, y, rows)

    return _each(of_member, run_loss, parts_of(run_loss, theta))


@dataclass(frozen=True, kw_only=True)
class Group:
    """One batch of G members, and what θ makes of it: computed when it is first asked for, then kept."""

    run_loss: RunLoss
    theta: Tensor  # [G, N]
    x: Tensor  # [G, B, ...]
    y: Tensor  # [G, B]
    h: Tensor | None  # [G, H]; None: clean
    noise: Noise  # [G, B, ...] each

    @property
    def gradient(self) -> Parts:
        """∇θ C as parameter tensors, [G, *shape] each."""
        return self._evaluated[0]

    @property
    def logits(self) -> Tensor:
        """[G, B, classes]."""
        return self._evaluated[1]

    @cached_property
    def _evaluated(self) -> tuple[Parts, Tensor]:
        with torch.enable_grad():
            leaves = self._leaves()
            losses, logits = self._losses(leaves, self.h)
            gradient = torch.autograd.grad(losses.sum(), leaves, materialize_grads=True)
        return gradient, logits.detach()

    def mixed_vjp(self, w: Tensor) -> Tensor:
        """<w, ∂_h ∇θ C> [G, H] for w [G, N], by one double backward for all hyperparameters.

        0 for the λs, and for a clean batch, which depends on none.
        """
        layout = self.run_loss.layout
        if self.h is None or len(layout.l2_columns) == len(layout.names):
            return w.new_zeros(len(w), len(layout.names))
        with torch.enable_grad():
            leaves, h = self._leaves(), self.h.detach().requires_grad_()
            losses, _ = self._losses(leaves, h)
            gradient = torch.autograd.grad(losses.sum(), leaves, create_graph=True, materialize_grads=True)
        # A parameter that nothing depends on has the gradient 0, which has no graph.
        pairs = [(g, to) for g, to in zip(gradient, parts_of(self.run_loss, w), strict=True) if g.requires_grad]
        outputs, onto = zip(*pairs, strict=True)
        (out,) = torch.autograd.grad(outputs, h, onto, allow_unused=True, materialize_grads=True)
        return out

    def tangent(self, z: Tensor, examples: int, *, columns: Sequence[int], direct: Tensor | None) -> Tensor:
        """∇²θ C z_h + ``direct``_h ∂_h ∇θ C on the first ``examples``: z [G, H, N], ``direct`` [G, H] → [G, H, N].

        By forward over reverse mode, for direction h and the hyperparameter in column ``columns``[h]. With batch
        normalisation, under the statistics of those ``examples``.
        """
        directions = z.shape[1]
        few = replace(
            self,
            run_loss=self.run_loss.vectorised if directions > 1 else self.run_loss,
            x=self.x[:, :examples],
            y=self.y[:, :examples],
            noise={site: drawn[:, :examples] for site, drawn in self.noise.items()},
        )
        theta, h = tuple(parts_of(self.run_loss, self.theta)), self.h

        def gradient(at: tuple[Tensor, ...], h: Tensor | None) -> tuple[Tensor, ...]:
            out: tuple[Tensor, ...] = func.grad(lambda t: few._losses(t, h)[0].sum())(at)
            return out

        def along(direction: Tensor, weights: Tensor) -> Tensor:
            onto = tuple(parts_of(self.run_loss, direction))
            if h is None or direct is None:
                tangent = func.jvp(lambda t: gradient(t, h), (theta,), (onto,))[1]
            else:
                tangent = func.jvp(gradient, (theta, h), (onto, weights))[1]
            return flat(tangent)

        weights = z.new_zeros(*z.shape[:2], len(self.run_loss.layout.names))
        if direct is not None:
            weights[:, range(directions), columns] = direct
        if directions == 1:  # without ``vmap``, under which convolutions are slower on a CPU
            return along(z[:, 0], weights[:, 0]).unsqueeze(1)
        out: Tensor = func.vmap(along, (1, 1), 1)(z, weights)
        return out

    def _leaves(self) -> list[Tensor]:
        return [part.requires_grad_() for part in parts_of(self.run_loss, self.theta)]

    def _losses(self, theta: Parts, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """C [G] and the logits [G, B, classes] at the parts of θ, [G, *shape] each."""
        if h is None:
            return _each(RunLoss.clean, self.run_loss, theta, self.x, self.y)
        return _each(RunLoss.regularised, self.run_loss, theta, h, self.x, self.y, self.noise)


def _each(
    f: Callable[..., tuple[Tensor, Tensor]], run_loss: RunLoss, theta: Parts, *more: Any
) -> tuple[Tensor, Tensor]:
    """f(run_loss, θ, ...) of every member, whose tensors the arguments hold along their first axis."""
    if len(theta[0]) > 1:
        of_all: tuple[Tensor, Tensor] = func.vmap(partial(f, run_loss.vectorised))(theta, *more)
        return of_all
    first, second = f(run_loss, *(_alone(argument) for argument in (theta, *more)))
    return first.unsqueeze(0), second.unsqueeze(0)


def _alone(argument: Any) -> Any:
    """The only member's tensors: one, or several in a dict or a sequence."""
    if isinstance(argument, dict):
        return {key: value.squeeze(0) for key, value in argument.items()}
    return argument.squeeze(0) if isinstance(argument, Tensor) else [value.squeeze(0) for value in argument]
