"""One run's loss as a function f(θ, h, x, y, ε) of tensors alone, for any ``nn.Module``.

Batch normalisation. The network has no state but θ, so that packs, checkpoints and resumption are exact: there are no
running averages. A T1 batch is normalised by its own statistics, and its gradient flows through them. Clean batches,
those of outer steps and of evaluations, are normalised by the statistics of a fixed sample: the first examples of T1,
without noise, at the same θ. This has four consequences. The C2 that an outer step
descends is the C2 that is reported. The prediction for one example does not depend on others in its batch. Nothing of
T2 or test leaks into it. And C2 depends on the hyperparameters through θ alone, as the hypergradients assume; v = ∇θ C2
includes the path through the statistics.

# DIFFERENCE: the authors' code (github.com/jelennal/t1t2, models/layers/batchnorm.py) normalises the T2 stream by a
running average of the statistics of the noisy T1 batches, which depend on n0 themselves and lag behind θ; as here,
T1 supplies the statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, func, nn

from trainers.errors import ConfigError, quoted
from trainers.hyperparameters import Layout, Parameter
from trainers.networks.module.models import Moments, Statistics

Noise = dict[int, Tensor]  # ε by noise site


@dataclass(frozen=True, kw_only=True)
class RunLoss:
    """C of one run, and the logits that it follows from.

    Noise sites: 0 the input, then the hidden layers, then one for each custom augmentation. A batch is augmented first,
    in the order of the configuration, and then takes the input noise. A custom penalty counts into C.
    """

    module: nn.Module
    parameters: tuple[Parameter, ...]
    layout: Layout
    sites: Sequence[nn.Module]  # the hidden layers whose outputs can take noise
    statistics: Statistics | None  # of the module's batch normalisations
    sample: Tensor  # the T1 examples [M, ...] whose statistics normalise what is clean

    def clean(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """C and logits [B, classes] without noise and regularisers: θ [N], x [B, ...], y [B]."""
        logits = self.clean_logits(theta, x, self.statistics_at(theta))
        return _cross_entropy(logits, _onehot(y, logits)), logits

    def statistics_at(self, theta: Tensor) -> list[Moments]:
        """Those of the T1 sample at θ [N], for every normalisation in the order of their calls."""
        if self.statistics is None:
            return []
        self.statistics.start()
        self._logits(theta, self.sample.to(theta))
        return self.statistics.taken

    def clean_logits(self, theta: Tensor, x: Tensor, statistics: list[Moments]) -> Tensor:
        """Logits [B, classes] of x [B, ...], normalised by the given statistics."""
        if self.statistics is not None:
            self.statistics.start(statistics)
        return self._logits(theta, x)

    def regularised(self, theta: Tensor, h: Tensor, x: Tensor, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """C, the L2 penalty left out, and logits: θ [N], h [H], x [B, ...], y [B], ε [B, ...] of each site."""
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
            q = torch.lerp(q, torch.full_like(q, 1 / q.shape[1]), h[layout.label_smoothing])
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
    handles = [module.register_forward_hook(lambda _m, _i, out, by=by: out + by) for module, by in shifts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _onehot(y: Tensor, like: Tensor) -> Tensor:
    return (y.unsqueeze(-1) == torch.arange(like.shape[-1], device=y.device)).to(like.dtype)


def _cross_entropy(logits: Tensor, q: Tensor) -> Tensor:
    return -(q * torch.log_softmax(logits, 1)).sum(1).mean()


def _same_shape(name: str, part: str, found: Tensor, like: Tensor) -> Tensor:
    if found.shape != like.shape:
        raise ConfigError(
            f"hyperparameters.custom {quoted(name)}: {part} returned the shape {list(found.shape)}: must be "
            f"{list(like.shape)}"
        )
    return found
