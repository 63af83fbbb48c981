"""One run's loss as a function f(θ, h, x, y, ε) of tensors alone, for any ``nn.Module``. θ comes as its K parts, the
parameter tensors of the module in their order: each is a leaf of its own for autograd, which then copies none of them.

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
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, func, nn

from trainers.errors import ConfigError, quoted
from trainers.hyperparameters import Layout, Parameter
from trainers.networks.module.models import Moments, Statistics

Noise = dict[int, Tensor]  # ε by noise site
Parts = Sequence[Tensor]  # the parameter tensors that θ is made of


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
    channels_last: bool  # whether the module is given its images [B, channels, height, width] in that order of memory

    @cached_property
    def vectorised(self) -> RunLoss:
        """The same for ``vmap``, which adds an axis to the channels and gains nothing by their order."""
        return replace(self, channels_last=False)

    def clean(self, theta: Parts, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """C and logits [B, classes] without noise and regularisers: the parts of θ, x [B, ...], y [B]."""
        logits = self.clean_logits(theta, x, self.statistics_at(theta))
        return F.cross_entropy(logits, y), logits

    def evaluation(self, theta: Parts, x: Tensor, y: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Clean mean cross-entropy and error on x [M, ...], y [M], taken in chunks of so many ``rows``."""
        statistics = self.statistics_at(theta)
        loss, wrong = theta[0].new_zeros(()), theta[0].new_zeros(())
        for xs, ys in zip(torch.split(x, rows), torch.split(y, rows), strict=True):
            logits = self.clean_logits(theta, xs, statistics)
            loss = loss + F.cross_entropy(logits, ys, reduction="sum")
            wrong = wrong + (logits.argmax(1) != ys).sum()
        return loss / len(y), wrong / len(y)

    def statistics_at(self, theta: Parts) -> list[Moments]:
        """Those of the T1 sample at θ, for every normalisation in the order of their calls."""
        if self.statistics is None:
            return []
        with self.statistics.taken() as moments:
            self._logits(theta, self.sample.to(theta[0]))
        return moments

    def clean_logits(self, theta: Parts, x: Tensor, statistics: list[Moments]) -> Tensor:
        """Logits [B, classes] of x [B, ...], normalised by the given statistics."""
        if self.statistics is None:
            return self._logits(theta, x)
        with self.statistics.given(statistics):
            return self._logits(theta, x)

    def regularised(self, theta: Parts, h: Tensor, x: Tensor, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """C without the L2 penalty, and logits: the parts of θ, h [H], x [B, ...], y [B], ε [B, ...] of each site."""
        layout = self.layout
        site = 1 + len(self.sites)
        for column, custom in layout.custom:
            if custom.augment is not None:
                x = _same_shape(layout.names[column], "augment", custom.augment(x, h[column], noise[site]), x)
                site += 1
        if 0 in noise and layout.input_noise is not None:
            x = x + h[layout.input_noise] * noise[0]
        hidden = (
            (layer, h[column] * noise[number])
            for number, (layer, column) in enumerate(zip(self.sites, layout.hidden_noise, strict=True), start=1)
            if column is not None and number in noise
        )
        with _added(hidden):
            logits = self._logits(theta, x)
        loss = self._cross_entropy(logits, y, h)
        for column, custom in layout.custom:
            if custom.penalty is not None:
                term = custom.penalty(dict(zip(self._names, theta, strict=True)), h[column])
                loss = loss + _same_shape(layout.names[column], "penalty", term, loss)
        return loss, logits

    def _cross_entropy(self, logits: Tensor, y: Tensor, h: Tensor) -> Tensor:
        """That against the labels, smoothed and changed by the custom hyperparameters where there are such."""
        layout = self.layout
        customs = [(column, custom.targets) for column, custom in layout.custom if custom.targets is not None]
        if layout.label_smoothing is None and not customs:
            return F.cross_entropy(logits, y)
        q = (y.unsqueeze(-1) == torch.arange(logits.shape[-1], device=y.device)).to(logits.dtype)
        if layout.label_smoothing is not None:
            q = torch.lerp(q, torch.full_like(q, 1 / q.shape[1]), h[layout.label_smoothing])
        for column, targets in customs:
            q = _same_shape(layout.names[column], "targets", targets(q, h[column]), q)
        return -(q * torch.log_softmax(logits, 1)).sum(1).mean()

    @cached_property
    def convolutional(self) -> bool:
        """Whether the module has convolutions, as layers."""
        return any(isinstance(part, nn.modules.conv._ConvNd) for part in self.module.modules())

    @cached_property
    def _names(self) -> list[str]:
        return [parameter.name for parameter in self.parameters]

    @cached_property
    def _places(self) -> dict[str, int]:
        """Where in θ each parameter is, by every name that it has: two layers may share one."""
        place = {id(parameter): number for number, parameter in enumerate(self.module.parameters())}
        return {name: place[id(p)] for name, p in self.module.named_parameters(remove_duplicate=False)}

    @cached_property
    def _constants(self) -> dict[str, Tensor]:
        return dict(self.module.named_buffers(remove_duplicate=False))

    def _logits(self, theta: Parts, x: Tensor) -> Tensor:
        state = {name: theta[place] for name, place in self._places.items()}
        for name, constant in self._constants.items():
            state[name] = constant.to(x if constant.is_floating_point() else x.device)
        if self.channels_last:
            # ``contiguous`` would leave images of one channel as they are, whose strides then do not tell the order.
            x = x.movedim(1, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 1)
        out: Tensor = func.functional_call(self.module, state, (x,), tie_weights=False)
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


def _same_shape(name: str, part: str, found: Tensor, like: Tensor) -> Tensor:
    if found.shape != like.shape:
        raise ConfigError(
            f"hyperparameters.custom {quoted(name)}: {part} returned the shape {list(found.shape)}: must be "
            f"{list(like.shape)}"
        )
    return found
