"""P copies of any ``nn.Module`` as one stacked network: vectorised by ``torch.func``, differentiated by autograd.

One run's loss is a function f(θ, h, x, y, ε) of tensors alone. ``vmap`` evaluates it for P runs at once; reverse mode
over that gives gradients and, once more, the mixed derivatives; forward over reverse the tangents of ``forward``.

Batch normalisation. The network has no state but θ, so that packs, checkpoints and resumption are exact: there are no
running averages. A T1 batch is normalised by its own statistics, and its gradient flows through them. What is clean,
the T2 batch of an outer step as well as every evaluation, is normalised by the statistics that a fixed sample of T1
has at the very θ in question: its first 256 examples, without noise. So the C2 that an outer step descends is the C2
that is reported; the prediction for one example does not depend on others in its batch; nothing of T2 or test leaks
into it; and C2 depends on the hyperparameters through θ alone, as the hypergradients assume. v = ∇θ C2 includes the
path through the statistics.

# DIFFERENCE: the authors' code (github.com/jelennal/t1t2, models/layers/batchnorm.py) normalises the T2 stream by a
running average of the statistics of the noisy T1 batches, which depend on n0 themselves and lag behind θ; as here,
T1 supplies the statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, func, nn

from trainers.config import ConfigError, TrainConfig
from trainers.hyperparameters import lay_out, penalty_strength
from trainers.networks.base import Descent
from trainers.networks.module.models import Moments, factory, parameters_of, without_running_averages
from trainers.networks.module.probe import check_derivatives, check_forward, check_parameters, numbers_of_an_example
from trainers.seeding import Stream, stream_key

STATISTICS_ROWS = 256  # T1 examples whose statistics normalise everything clean
EVALUATION_ROWS = 2048  # examples times members in one chunk of an evaluation: bounds its memory

Noise = dict[int, Tensor]  # ε by noise site


@dataclass(frozen=True)
class Trace:
    """One batch of every member and what θ made of it."""

    x: Tensor  # [P, B, ...]
    y: Tensor  # [P, B]
    h: Tensor | None  # [P, H]; None: clean
    noise: Noise  # [P, B, ...] each
    theta: Tensor  # [P, N], the leaf of the graph of
    losses: Tensor  # C [P]
    logits: Tensor  # [P, B, classes]

    @cached_property
    def gradient(self) -> Tensor:
        """∇θ C [P, N]. Taken at most once, which frees the graph; a trace whose gradient nobody wants costs none."""
        (gradient,) = torch.autograd.grad(self.losses, self.theta, torch.ones_like(self.losses))
        return gradient


class StackedModule:
    """P modules side by side; every method takes θ as one tensor [P, N]. See :class:`trainers.networks.base.Network`.

    Noise sites: 0 the input, then the hidden layers, then one for each custom augmentation. A batch is augmented first,
    in the order of the configuration, and then takes the input noise. A custom penalty counts into C.

    Raises :class:`trainers.ConfigError` for a module that does not fit the data, is random, keeps a state beside its
    parameters or cannot be differentiated twice, and for a custom hyperparameter that the gradient does not depend on.
    """

    def __init__(
        self,
        config: TrainConfig,
        input_shape: tuple[int, ...],
        classes: int,
        t1_x: NDArray[np.float32],
        *,
        tangents: bool,
    ) -> None:
        self.classes = classes
        self.factory = factory(config.model, input_shape, classes)
        self.module = self._fresh(0)
        check_parameters(config.model.name, self.module, self._fresh(0))
        self.statistics = without_running_averages(self.module)
        self.sample = torch.from_numpy(t1_x[:STATISTICS_ROWS])
        probed = check_forward(config, self.module, self.statistics, self.sample, classes)
        self.parameters = parameters_of(self.module)
        self.size = self.parameters[-1].stop
        self.layout = lay_out(config.hyperparameters, self.parameters, len(probed))
        self.sites = [self.module.get_submodule(name) for name in probed]
        augmented = [input_shape for _, custom in self.layout.custom if custom.augment]
        self.noise_shapes: Sequence[tuple[int, ...] | None] = [
            input_shape if self.layout.input_noise is not None else None,
            *(
                shape if column is not None else None
                for shape, column in zip(probed.values(), self.layout.hidden_noise, strict=True)
            ),
            *augmented,
        ]
        self.example_size = numbers_of_an_example(self.module, self.statistics, self.sample)
        check_derivatives(config, self, tangents)

    def initial(self, seed: int) -> Tensor:
        """θ of one member, [N] in float64: what the module's own initialisation draws from this seed."""
        made = [parameter.detach().double().flatten() for parameter in self._fresh(seed).parameters()]
        return torch.cat(made)

    def linearise(
        self,
        theta: Tensor,
        x: Tensor,
        y: Tensor,
        h: Tensor | None = None,
        noise: list[Tensor | None] | None = None,
        mirrored: bool = False,
    ) -> Trace:
        """One forward pass over batches x [P, B, ...], y [P, B], clean without ``h``; ``mirrored``: also with -ε."""
        draws = {site: drawn for site, drawn in enumerate(noise or ()) if drawn is not None}
        if mirrored:
            x, y = torch.cat([x, x], 1), torch.cat([y, y], 1)
            draws = {site: torch.cat([drawn, -drawn], 1) for site, drawn in draws.items()}
        with torch.enable_grad():
            at = theta.detach().requires_grad_()
            losses, logits = self._losses(at, h, x, y, draws)
        return Trace(x, y, h, draws, at, losses, logits.detach())

    def loss(self, trace: Trace) -> Tensor:
        """Mean cross-entropy of the traced batch against the labels, [P]."""
        log_p = torch.log_softmax(trace.logits, 2)
        return -log_p.gather(2, trace.y.unsqueeze(2)).mean((1, 2))

    def gradient(self, trace: Trace) -> Tensor:
        """∇θ C of the traced batch, [P, N]; the caller may write into it, but not into θ before."""
        return trace.gradient.clone()

    def sgd_step(self, theta: Tensor, trace: Trace, strength: Tensor, rate: float, out: Tensor) -> None:
        """θ - η (∇θ C + s θ) into ``out``, s the strength of the penalty."""
        g = trace.gradient
        torch.mul(theta, 1 - rate * strength, out=out).sub_(g, alpha=rate)

    def scaled_gradient(self, trace: Trace, scale: Tensor | float) -> Tensor:
        """scale ∘ ∇θ C as a direction."""
        return scale * trace.gradient

    def direction(self, w: Tensor) -> Tensor:
        """The direction w [P, N] is itself."""
        return w

    def dots(self, theta: Tensor, w: Tensor, since: Descent | None = None) -> Tensor:
        """Σ w_j θ_j over each of the K parameter tensors, [P, K]."""
        return torch.stack([part.sum(1) for part in (w * theta).split_with_sizes(list(self.layout.sizes), 1)], dim=1)

    def mixed_vjp(self, trace: Trace, w: Tensor) -> Tensor:
        """<w, ∂_h ∇θ C> for each hyperparameter but the λs, [P, H], by one double backward for all of them."""
        if trace.h is None or self._only_penalised():
            return trace.losses.new_zeros(len(trace.losses), len(self.layout.names))
        with torch.enable_grad():
            at, h = trace.theta.detach().requires_grad_(), trace.h.detach().requires_grad_()
            losses, _ = self._losses(at, h, trace.x, trace.y, trace.noise)
            (gradient,) = torch.autograd.grad(losses.sum(), at, create_graph=True)
            (out,) = torch.autograd.grad((gradient * w).sum(), h, allow_unused=True, materialize_grads=True)
        return out

    def tangent(self, trace: Trace, z: Tensor, examples: int, direct: Tensor | None) -> Tensor:
        """∇²θ C z_h + ``direct``_h ∂_h ∇θ C for each of H directions z [P, H, N], forward over reverse.

        On the first ``examples`` of the batch, an unbiased estimate of its mean (with batch normalisation: of the mean
        under the statistics of that part). ``direct`` [P, H]; without, plain products with the Hessian of any number H.
        """
        theta = trace.theta.detach()
        x, y = trace.x[:, :examples], trace.y[:, :examples]
        noise = {site: drawn[:, :examples] for site, drawn in trace.noise.items()}

        def gradient(at: Tensor, h: Tensor | None) -> Tensor:
            out: Tensor = func.grad(lambda t: self._losses(t, h, x, y, noise)[0].sum())(at)
            return out

        def along(direction: Tensor, weights: Tensor) -> Tensor:
            if trace.h is None or direct is None:
                tangent: Tensor = func.jvp(lambda t: gradient(t, trace.h), (theta,), (direction,))[1]
            else:
                tangent = func.jvp(gradient, (theta, trace.h), (direction, weights))[1]
            return tangent

        weights = torch.diag_embed(z.new_ones(z.shape[:2]) if direct is None else direct)
        out: Tensor = func.vmap(along, (1, 1), 1)(z, weights)
        return out

    def sgd_step_tangent(
        self, trace: Trace, z: Tensor, examples: int, direct: Tensor, strengths: Tensor, fade: float, rate: float
    ) -> None:
        """z ← (I - η (∇²θ C + s)) ``fade`` z - η ``direct`` ∂_h ∇θ C in place."""
        z.mul_(fade)
        z_dot = self.tangent(trace, z, examples, direct)
        z_dot.addcmul_(penalty_strength(self.layout, strengths).unsqueeze(1), z)
        z.sub_(z_dot, alpha=rate)

    @torch.no_grad()
    def evaluate(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Clean mean cross-entropy and error of every member on shared data x [M, ...], y [M]: two tensors [P]."""
        loss = theta.new_zeros(len(theta))
        wrong = theta.new_zeros(len(theta))
        rows = max(1, EVALUATION_ROWS // len(theta))
        statistics = func.vmap(self._statistics)(theta)
        for xs, ys in zip(torch.split(x, rows), torch.split(y, rows), strict=True):
            logits = func.vmap(self._clean_logits, (0, None, 0))(theta, xs, statistics)
            labels = ys.expand(len(theta), -1)
            loss -= torch.log_softmax(logits, 2).gather(2, labels.unsqueeze(2)).sum((1, 2))
            wrong += (logits.argmax(2) != labels).sum(1)
        return loss / len(y), wrong / len(y)

    def _fresh(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stream_key(seed, Stream.WEIGHTS))
            return self.factory().train()

    def _only_penalised(self) -> bool:
        layout = self.layout
        return all(name.startswith("log10_l2") for name in layout.names) and not layout.custom

    def _losses(self, theta: Tensor, h: Tensor | None, x: Tensor, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """C of every member [P] and the logits [P, B, classes]."""
        if h is None:
            return func.vmap(self._clean)(theta, x, y)
        return func.vmap(self._regularised)(theta, h, x, y, noise)

    def _clean(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._clean_logits(theta, x, self._statistics(theta))
        return _cross_entropy(logits, _onehot(y, logits)), logits

    def _statistics(self, theta: Tensor) -> list[Moments]:
        """Those of the T1 sample at θ, for every normalisation."""
        if self.statistics is None:
            return []
        self.statistics.start()
        self._logits(theta, self.sample.to(theta))
        return self.statistics.taken

    def _clean_logits(self, theta: Tensor, x: Tensor, statistics: list[Moments]) -> Tensor:
        if self.statistics is not None:
            self.statistics.start(statistics)
        return self._logits(theta, x)

    def _regularised(self, theta: Tensor, h: Tensor, x: Tensor, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """One member's f: θ [N], h [H], x [B, ...], y [B], ε [B, ...] of each site."""
        layout = self.layout
        site = 1 + len(self.sites)
        for column, custom in layout.custom:
            if custom.augment is not None:
                x = _same_shape(layout.names[column], "augment", custom.augment(x, h[column], noise[site]), x)
                site += 1
        if 0 in noise and layout.input_noise is not None:
            x = x + h[layout.input_noise] * noise[0]
        if self.statistics is not None:
            self.statistics.start()
        hidden = (
            (layer, h[column] * noise[number])
            for number, (layer, column) in enumerate(zip(self.sites, layout.hidden_noise, strict=True), start=1)
            if column is not None and number in noise
        )
        with _added(hidden):
            logits = self._logits(theta, x)
        q = _onehot(y, logits)
        if layout.label_smoothing is not None:
            q = torch.lerp(q, torch.full_like(q, 1 / self.classes), h[layout.label_smoothing])
        for column, custom in layout.custom:
            if custom.targets is not None:
                q = _same_shape(layout.names[column], "targets", custom.targets(q, h[column]), q)
        loss = _cross_entropy(logits, q)
        for column, custom in layout.custom:
            if custom.penalty is not None:
                term = custom.penalty(self._named(theta), h[column])
                loss = loss + _same_shape(layout.names[column], "penalty", term, loss)
        return loss, logits

    def _named(self, theta: Tensor) -> dict[str, Tensor]:
        parts = theta.split_with_sizes(list(self.layout.sizes))
        return {p.name: part.view(p.shape) for p, part in zip(self.parameters, parts, strict=True)}

    def _logits(self, theta: Tensor, x: Tensor) -> Tensor:
        state = self._named(theta)
        for name, constant in self.module.named_buffers():
            state[name] = constant.to(theta if constant.is_floating_point() else theta.device)
        out: Tensor = func.functional_call(self.module, state, (x,))
        return out


@contextmanager
def _added(shifts: Iterator[tuple[nn.Module, Tensor]]) -> Iterator[None]:
    """While open, the output of each module has the tensor added to it."""
    handles = [module.register_forward_hook(_shift(by)) for module, by in shifts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shift(by: Tensor) -> Callable[[nn.Module, object, Tensor], Tensor]:
    return lambda module, inputs, output: output + by


def _onehot(y: Tensor, like: Tensor) -> Tensor:
    return (y.unsqueeze(-1) == torch.arange(like.shape[-1], device=y.device)).to(like.dtype)


def _cross_entropy(logits: Tensor, q: Tensor) -> Tensor:
    return -(q * torch.log_softmax(logits, 1)).sum(1).mean()


def _same_shape(name: str, part: str, found: Tensor, like: Tensor) -> Tensor:
    if found.shape != like.shape:
        raise ConfigError(
            f"hyperparameters.custom {name!r}: {part} returned the shape {list(found.shape)}: must be "
            f"{list(like.shape)}"
        )
    return found
