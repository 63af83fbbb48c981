"""Networks as modules: the convolutional network, the perceptron that a custom regulariser needs, and the user's own.

A factory makes a fresh ``nn.Module`` that maps inputs [B, *input_shape] to logits [B, classes] and draws its weights
from torch's global generator, as torch's own modules do. A module that can take noise on hidden layers names, in an
attribute ``noise_sites``, the submodules whose outputs take it: ``noise_sites = ("features.1", "features.4")``.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainers.config import LOOK_UP, ConfigError, ModelConfig
from trainers.errors import quoted
from trainers.hyperparameters import Parameter
from trainers.references import resolve

Factory = Callable[[], nn.Module]
Moments = tuple[Tensor, Tensor]  # mean and variance


class Chain(nn.Sequential):
    """Named layers in a row, some of whose outputs take noise."""

    def __init__(self, layers: dict[str, nn.Module], noise_sites: tuple[str, ...]) -> None:
        super().__init__(OrderedDict(layers))
        self.noise_sites = noise_sites


class Statistics:
    """The means and variances that a module's normalisations use, in the order of their calls.

    A forward pass normalises by those of its own batch; within :meth:`taken` it also hands them over, and within
    :meth:`given` it uses the ones that it is given.
    """

    def __init__(self) -> None:
        self.out: list[Moments] | None = None
        self.into: Iterator[Moments] | None = None

    @contextmanager
    def taken(self) -> Iterator[list[Moments]]:
        """While open, append to the list the statistics of each call."""
        self.out = []
        try:
            yield self.out
        finally:
            self.out = None

    @contextmanager
    def given(self, moments: Iterable[Moments]) -> Iterator[None]:
        """While open, normalise by these."""
        self.into = iter(moments)
        try:
            yield
        finally:
            self.into = None


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, 2015) that keeps no running averages: scale and shift are all it has."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, like: nn.modules.batchnorm._BatchNorm, statistics: Statistics) -> None:
        super().__init__()
        self.register_parameter("weight", like.weight)
        self.register_parameter("bias", like.bias)
        self.eps, self.statistics = like.eps, statistics

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [B, C, ...]."""
        into, out = self.statistics.into, self.statistics.out
        if into is not None:
            return self._normalised(x, *next(into))
        on_cpu = x.device.type == "cpu"
        if on_cpu and out is None:
            return self._fused(x)
        axes = [0, *range(2, x.dim())]
        mean = x.mean(axes, keepdim=True)
        variance = (x - mean).square().mean(axes, keepdim=True)  # the biased one
        if out is not None:
            out.append((mean, variance))
        return self._fused(x) if on_cpu else self._normalised(x, mean, variance)

    def _fused(self, x: Tensor) -> Tensor:
        """By the batch's own statistics; torch's operation has all derivatives on a CPU, and takes fewer passes."""
        return torch.batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, False)

    def _normalised(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.dim() - 2))
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight.view(shape)
        shift = -mean * scale if self.bias is None else self.bias.view(shape) - mean * scale
        return torch.addcmul(shift, x, scale)


def without_running_averages(module: nn.Module) -> Statistics | None:
    """Put :class:`BatchNorm` in the place of each batch normalisation of torch's; parameters keep their names.

    Returns the object that supplies the statistics of all of them, or None where the module has no batch normalisation.
    """
    statistics = Statistics()
    replaced: dict[nn.Module, BatchNorm] = {}
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                if child not in replaced:
                    replaced[child] = BatchNorm(child, statistics)
                parent.add_module(name, replaced[child])
    return statistics if replaced else None


def factory(model: ModelConfig, input_shape: tuple[int, ...], classes: int) -> Factory:
    """A function that makes the configuration's network for inputs of this shape, each time with fresh weights.

    Raises :class:`trainers.ConfigError` where there can be no such network.
    """
    if LOOK_UP in model.name:
        return _users(model.name, input_shape, classes)
    make = cnn if model.name == "cnn" else mlp
    make(model, input_shape, classes)  # what cannot be is refused now, not at the first use
    return lambda: make(model, input_shape, classes)


def mlp(model: ModelConfig, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A perceptron whose parameters have the names and the order of ``StackedMLP``'s."""
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    size = math.prod(input_shape)
    for number, width in enumerate(model.hidden, start=1):
        layers |= {f"{number}": nn.Linear(size, width), f"activation{number}": _activation(model)}
        size = width
    layers[f"{len(model.hidden) + 1}"] = nn.Linear(size, classes)
    return Chain(layers, tuple(f"activation{n + 1}" for n in range(len(model.hidden))))


def cnn(model: ModelConfig, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Stages of a 3×3 convolution, batch normalisation where asked for, activation and 2×2 maximum, then one layer.

    Noise goes on the activations. A stage halves both sides of the image. A convolution has no bias where a
    normalisation follows, which would take it away.
    """
    if len(input_shape) != 3:
        raise ConfigError(
            f"models.name = 'cnn': the inputs have shape {list(input_shape)}: must be [channels, height, width]"
        )
    depth, height, width = input_shape
    stages = len(model.channels)
    if min(height, width) >> stages == 0:
        raise ConfigError(
            f"models.channels = {quoted(list(model.channels))}: {stages} halvings leave nothing of images of "
            f"{height}×{width}: must be at most {min(height, width).bit_length() - 1} stages"
        )
    layers: dict[str, nn.Module] = {}
    for stage, maps in enumerate(model.channels, start=1):
        layers[f"conv{stage}"] = nn.Conv2d(depth, maps, 3, padding=1, bias=not model.batch_norm)
        if model.batch_norm:
            layers[f"norm{stage}"] = nn.BatchNorm2d(maps)
        layers |= {f"activation{stage}": _activation(model), f"pool{stage}": nn.MaxPool2d(2)}
        depth, height, width = maps, height // 2, width // 2
    layers |= {"flatten": nn.Flatten(), "output": nn.Linear(depth * height * width, classes)}
    return Chain(layers, tuple(f"activation{n + 1}" for n in range(stages)))


def _activation(model: ModelConfig) -> nn.Module:
    return nn.ReLU() if model.activation == "relu" else nn.Tanh()


def _users(name: str, input_shape: tuple[int, ...], classes: int) -> Factory:
    """The user's ``module:function``, called with the shape of an input and the number of classes."""
    where = f"models.name = {quoted(name)}"
    call = resolve(name, "models.name")
    if not callable(call):
        raise ConfigError(f"{where}: is a {type(call).__name__}: must be a function of (input_shape, classes)")

    def make() -> nn.Module:
        try:
            made = call(input_shape, classes)
        except (Exception, SystemExit) as error:  # the user's own code, so anything may come
            raise ConfigError(
                f"{where}: the function raised {type(error).__name__} for input_shape = {input_shape}, "
                f"classes = {classes}: {error}"
            ) from error
        if not isinstance(made, nn.Module):
            raise ConfigError(f"{where}: returned a {type(made).__name__}: must be a torch.nn.Module")
        return made

    return make


def parameters_of(module: nn.Module) -> tuple[Parameter, ...]:
    """The parameter tensors of a module in the order of θ.

    A layer begins with each submodule that holds a matrix or a kernel; what follows without one, such as the scale and
    shift of a normalisation, belongs to the layer before it.
    """
    table: list[Parameter] = []
    owner, layer, start = None, 0, 0
    for name, value in module.named_parameters():
        holder = name.rpartition(".")[0]
        own = module.get_submodule(holder)
        if holder != owner and any(p.dim() > 1 for p in own.parameters(recurse=False)):
            layer += 1
        owner = holder
        table.append(Parameter(name=name, shape=tuple(value.shape), layer=max(layer, 1), start=start))
        start = table[-1].stop
    return tuple(table)
