"""Which hyperparameters a training has, where each one acts, and the L2 penalty in closed form.

A pack of P runs holds its hyperparameters as one tensor ``h`` of shape [P, H]; a :class:`Layout` says what each of the
H columns is. The L2 penalty Ω(λ, θ) = Σ_j 10^{λ_j} θ_j² / 2 (method of Luketina et al., 2016, in the parametrisation
of the slides) never enters an autograd graph: its gradient 10^{λ_j} θ_j and that gradient's derivative with respect to
λ are added by :func:`penalty_strength` and :func:`penalty_hypergradient`.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.config import ConfigError, HyperparameterConfig, Range
from trainers.errors import quoted, shortened
from trainers.references import resolve

LN10 = math.log(10.0)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter tensor of a network and its place in the flat vector θ of N entries."""

    name: str
    shape: tuple[int, ...]
    layer: int  # the weight-bearing layer that it belongs to, from 1
    start: int

    @property
    def stop(self) -> int:
        """One past its last entry in θ."""
        return self.start + math.prod(self.shape)


@dataclass(frozen=True)
class Regulariser:
    """A differentiable regulariser of the user's own, acting on the T1 loss of one run through one scalar ``value``.

    Give any of the three; each is called with one run's tensors inside ``torch.func`` transforms, so it must be made of
    differentiable torch operations without data-dependent control flow:

    - ``augment(x, value, noise)`` → inputs like ``x`` [B, ...]; ``noise`` is standard normal, of the shape of ``x``
    - ``targets(q, value)`` → target distributions like ``q`` [B, C]
    - ``penalty(parameters, value)`` → a scalar added to the loss; ``parameters`` maps names to tensors
    """

    augment: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    targets: Callable[[Tensor, Tensor], Tensor] | None = None
    penalty: Callable[[dict[str, Tensor], Tensor], Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What each of the H columns of ``h`` is. ``None`` in the place of a column: there is no such hyperparameter."""

    names: tuple[str, ...]
    ranges: tuple[Range, ...]
    l2: tuple[int | None, ...]  # for each parameter tensor, the column of its λ
    sizes: tuple[int, ...]  # entries of each parameter tensor
    input_noise: int | None
    hidden_noise: tuple[int | None, ...]  # for each hidden layer
    label_smoothing: int | None
    custom: tuple[tuple[int, Regulariser], ...]

    @property
    def noise(self) -> tuple[int | None, ...]:
        """The columns of the noise on the inputs and on each hidden layer."""
        return self.input_noise, *self.hidden_noise

    def columns_of(self, kinds: Sequence[str]) -> tuple[int, ...]:
        """The columns of these kinds, each a key of ``HyperparameterConfig``, in order."""
        noise = tuple(column for column in self.hidden_noise if column is not None)
        table = {
            "log10_l2": self.l2_columns,
            "input_noise_std": () if self.input_noise is None else (self.input_noise,),
            "hidden_noise_std": noise,
            "label_smoothing": () if self.label_smoothing is None else (self.label_smoothing,),
            "custom": tuple(column for column, _ in self.custom),
        }
        return tuple(sorted({column for kind in kinds for column in table[kind]}))

    @property
    def l2_columns(self) -> tuple[int, ...]:
        """The columns that are λs."""
        return tuple(sorted({column for column in self.l2 if column is not None}))


def load_regulariser(reference: str) -> Regulariser:
    """The :class:`Regulariser` that ``module:attribute`` names."""
    found = resolve(reference, "hyperparameters.custom")
    if not isinstance(found, Regulariser):
        raise ConfigError(
            f"hyperparameters.custom = {quoted(reference)}: must be a trainers.hyperparameters.Regulariser, "
            f"not {type(found).__name__}"
        )
    return found


def lay_out(config: HyperparameterConfig, parameters: Sequence[Parameter], hidden_layers: int) -> Layout:
    """Name the hyperparameters of a network with these parameter tensors."""
    columns: dict[str, Range] = {}

    def add(name: str, box: Range) -> int:
        if name.lower() in map(str.lower, columns):  # SQL would not tell them apart
            raise ConfigError(f"hyperparameters: two share a name: {[*columns, name]}")
        columns[name] = box
        return len(columns) - 1

    l2 = _l2_columns(config, parameters, add)
    input_noise = add("input_noise_std", config.input_noise_std) if config.input_noise_std else None
    hidden_noise: list[int | None] = [None] * hidden_layers
    if (box := config.hidden_noise_std) is not None:
        if hidden_layers == 0:
            raise ConfigError("hyperparameters.hidden_noise_std: this model has no hidden layer that can take noise")
        if box.scope == "tied":
            hidden_noise = [add("hidden_noise_std", box)] * hidden_layers
        else:
            hidden_noise = [add(f"hidden_noise_std_layer{i + 1}", box) for i in range(hidden_layers)]
    smoothing = add("label_smoothing", config.label_smoothing) if config.label_smoothing else None
    regularisers = [load_regulariser(key) for key in config.custom]
    own = [add(key.partition(":")[2], box) for key, box in config.custom.items()]
    if not columns:
        raise ConfigError("hyperparameters: none given; name at least one, for example log10_l2 or input_noise_std")
    return Layout(
        names=tuple(columns),
        ranges=tuple(columns.values()),
        l2=tuple(l2),
        sizes=tuple(p.stop - p.start for p in parameters),
        input_noise=input_noise,
        hidden_noise=tuple(hidden_noise),
        label_smoothing=smoothing,
        custom=tuple(zip(own, regularisers, strict=True)),
    )


def _l2_columns(
    config: HyperparameterConfig, parameters: Sequence[Parameter], add: Callable[[str, Range], int]
) -> list[int | None]:
    """For each parameter tensor the column of its λ, which ``add`` makes."""
    l2: list[int | None] = [None] * len(parameters)
    if (box := config.log10_l2) is None:
        return l2
    if box.scope == "tied":
        return [add("log10_l2", box)] * len(parameters)
    if box.scope == "layer":
        columns = {layer: add(f"log10_l2_layer{layer}", box) for layer in sorted({p.layer for p in parameters})}
        return [columns[p.layer] for p in parameters]
    for group, patterns in config.l2_groups.items():
        column = add(f"log10_l2_{group}", box)
        found = [i for i, p in enumerate(parameters) if any(fnmatch.fnmatch(p.name, q) for q in patterns)]
        taken = [parameters[i].name for i in found if l2[i] is not None]
        if not found or taken:
            reason = f"parameter {taken[0]} is in two groups" if taken else "matches no parameter"
            raise ConfigError(
                f"hyperparameters.l2_groups.{shortened(group)} = {quoted(list(patterns))}: {reason}; the "
                f"parameters are {[p.name for p in parameters]}"
            )
        for i in found:
            l2[i] = column
    return l2


def penalty_strengths(layout: Layout, h: Tensor) -> Tensor:
    """10^{λ_j} for each of the K parameter tensors, [P, K]; 0 where there is no penalty."""
    powers = {column: torch.pow(10.0, h[:, column]) for column in layout.l2_columns}
    zero = torch.zeros_like(h[:, 0])
    return torch.stack([zero if column is None else powers[column] for column in layout.l2], dim=1)


def penalty_strength(layout: Layout, strengths: Tensor) -> Tensor:
    """10^{λ_j} for each entry of θ: [P, 1] where all entries share one λ (then it broadcasts), else [P, N].

    ``strengths`` [P, K] are those of :func:`penalty_strengths`, here and below, or whatever follows from them alone.
    """
    if len(set(layout.l2)) == 1:
        return strengths[:, :1]
    return strengths.repeat_interleave(torch.tensor(layout.sizes, device=strengths.device), dim=1)


def penalty_hypergradient(layout: Layout, strengths: Tensor, dots: Tensor) -> Tensor:
    """<w, ∂_λ ∇θ Ω> = ln 10 · 10^{λ_g} · Σ_{j in g} w_j θ_j for every λ.

    ``dots`` [P, K] holds Σ w_j θ_j over each of the K parameter tensors. Returns [P, H], zero off the λ columns.
    """
    out = dots.new_zeros(len(dots), len(layout.names))
    each = (strengths * dots).mul_(LN10)
    for column, tensors in _runs(layout):
        out[:, column] += each[:, tensors].sum(1)
    return out


def penalty_direction(
    layout: Layout, columns: tuple[int, ...], strengths: Tensor, theta: Tensor, out: Tensor, factor: float = 1.0
) -> None:
    """Add ``factor`` · ∂_λ ∇θ Ω = ``factor`` · ln 10 · 10^{λ_g} θ_g to ``out`` [P, H, N], in place.

    Direction h belongs to the hyperparameter in column ``columns``[h].
    """
    starts = [0, *itertools.accumulate(layout.sizes)]
    for column, tensors in _runs(layout):
        if column not in columns:
            continue
        entries = slice(starts[tensors.start], starts[tensors.stop])
        out[:, columns.index(column), entries].addcmul_(
            theta[:, entries], strengths[:, tensors.start, None], value=factor * LN10
        )


def _runs(layout: Layout) -> Iterator[tuple[int, slice]]:
    """Each column of a λ with the neighbouring parameter tensors that share it; a column may come several times."""
    start = 0
    for column, group in itertools.groupby(layout.l2):
        stop = start + len(list(group))
        if column is not None:
            yield column, slice(start, stop)
        start = stop
