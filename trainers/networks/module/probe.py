"""Trying a module once, before anything is trained with it: what does not fit gives one clear error."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainers.config import ConfigError, TrainConfig
from trainers.errors import quoted, shortened
from trainers.networks.module.group import Group
from trainers.networks.module.loss import RunLoss

ROWS = 4  # examples of a trial
_GLOBAL = threading.RLock()  # torch's global generator is one for all threads


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While open, torch's global generator is that of ``seed``, and this thread's alone."""
    with _GLOBAL, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def check_parameters(name: str, module: nn.Module, twin: nn.Module) -> None:
    """Every parameter is a trainable float tensor with values; ``twin``, made from the same seed, has the same."""
    where = f"models.name = {quoted(name)}"
    parameters, others = dict(module.named_parameters()), dict(twin.named_parameters())
    if not parameters:
        raise ConfigError(f"{where}: the module has no parameters to train")
    for key, value in parameters.items():
        if isinstance(value, nn.parameter.UninitializedParameter):
            raise ConfigError(f"{where}: parameter {quoted(key)} has no shape yet: use layers that are not lazy")
        if not value.is_floating_point() or not value.requires_grad:
            raise ConfigError(
                f"{where}: parameter {quoted(key)} is {value.dtype} with requires_grad = {value.requires_grad}:"
                " must be a float to be trained; register a constant as a buffer"
            )
        if key not in others or not torch.equal(value, others[key]):
            raise ConfigError(
                f"{where}: parameter {quoted(key)} differs between two modules made from one seed: initial "
                "weights must be drawn from torch's global generator only"
            )


def check_forward(config: TrainConfig, module: nn.Module, sample: Tensor, classes: int) -> dict[str, tuple[int, ...]]:
    """The module takes the data, gives logits, and is a function of its parameters alone.

    Returns the noise sites of the hidden layers by name, each with the shape of one example; empty where the
    configuration asks for no noise on hidden layers.
    """
    where = f"models.name = {quoted(config.model.name)}"
    x = sample[:ROWS].to(next(module.parameters()))
    names: tuple[str, ...] = getattr(module, "noise_sites", ()) if config.hyperparameters.hidden_noise_std else ()
    if config.hyperparameters.hidden_noise_std and not names:
        raise ConfigError(
            f"hyperparameters.hidden_noise_std: {where} marks no layer that can take noise: give the "
            "module an attribute noise_sites, the names of the submodules whose outputs take it"
        )
    before = {name: value.clone() for name, value in module.named_buffers()}
    outputs: dict[str, list[object]] = {name: [] for name in names}
    handles = []
    for name in names:
        try:
            site = module.get_submodule(name)
        except AttributeError:
            raise ConfigError(
                f"{where}: noise_sites names {quoted(name)}, which is no submodule: must be among "
                f"{quoted([n for n, _ in module.named_modules() if n])}"
            ) from None
        handles.append(site.register_forward_hook(lambda _m, _i, out, seen=outputs[name]: seen.append(out)))
    first, second = (_forward(where, module, x, classes, seed=seed) for seed in (0, 1))
    for handle in handles:
        handle.remove()
    changed = [name for name, value in module.named_buffers() if not torch.equal(value, before[name])]
    if changed:
        raise ConfigError(
            f"{where}: the forward pass changes the buffer {quoted(changed[0])}: the parameters must be the "
            "only state (batch normalisation of torch.nn is taken care of)"
        )
    if not torch.equal(first, second):
        random = [n for n, m in module.named_modules() if isinstance(m, (nn.modules.dropout._DropoutNd, nn.RReLU))]
        cause = f" (random layers: {random})" if random else ""
        raise ConfigError(
            f"{where}: two forward passes of one batch differ{cause}: a module must be a function of its "
            "inputs and parameters, so that a run follows from its seed; noise is a hyperparameter here"
        )
    return {name: _site_shape(where, name, seen, len(x)) for name, seen in outputs.items()}


def numbers_of_an_example(module: nn.Module, sample: Tensor) -> int:
    """About how many numbers a traced example takes: its inputs, and the output and derivative of every layer."""
    x = sample[:ROWS].to(next(module.parameters()))
    outputs = [x.numel()]
    layers = [part for part in module.modules() if not any(part.children())]

    def count(_layer: nn.Module, _inputs: object, output: object) -> None:
        outputs.append(output.numel() if isinstance(output, Tensor) else 0)

    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    return 2 * sum(outputs) // len(x)


def _forward(where: str, module: nn.Module, x: Tensor, classes: int, *, seed: int) -> Tensor:
    with seeded(seed), torch.no_grad():
        try:
            out = module(x)
        except Exception as error:  # the user's own code, so anything may come
            raise ConfigError(
                f"{where}: does not take inputs of shape {list(x.shape[1:])}, here a batch "
                f"{list(x.shape)} ({type(error).__name__}: {error})"
            ) from error
    wanted = (len(x), classes)
    if not isinstance(out, Tensor) or tuple(out.shape) != wanted:
        found = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ConfigError(
            f"{where}: gives {found} for a batch of inputs {list(x.shape)}: must be logits "
            f"{list(wanted)}, one for each class"
        )
    return out


def _site_shape(where: str, name: str, seen: list[object], rows: int) -> tuple[int, ...]:
    calls = len(seen) // 2  # of each of two forward passes
    output = seen[0] if calls == 1 else None
    if not isinstance(output, Tensor) or len(output) != rows:
        raise ConfigError(
            f"{where}: noise_sites names {quoted(name)}, called {calls} times in a forward pass: must be "
            "called once and give one tensor [B, ...]"
        )
    return tuple(output.shape[1:])


def takes_channels_last(module: nn.Module, sample: Tensor) -> bool:
    """Whether the module has convolutions of images, and takes these with their channels last in memory.

    Convolutions and maxima over images are up to twice as fast in that order on a CPU. A module may ask for another
    one, by a ``view`` that only contiguous tensors have.
    """
    if sample.dim() != 4 or not any(isinstance(part, nn.Conv2d) for part in module.modules()):
        return False
    x = sample[:ROWS].to(next(module.parameters()))
    outputs = []
    for given in (x, x.movedim(1, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 1)):
        with torch.no_grad():
            try:
                outputs.append(module(given))
            except RuntimeError:
                return False
    return torch.allclose(outputs[0], outputs[1], rtol=1e-3, atol=1e-4)


def check_derivatives(
    config: TrainConfig,
    run_loss: RunLoss,
    theta: Tensor,
    noise_shapes: Sequence[tuple[int, ...] | None],
    *,
    classes: int,
    tangents: bool,
) -> None:
    """The derivatives that the estimator needs exist, and the gradient depends on every custom hyperparameter.

    Taken at θ [N], for one member as it is and for two by ``vmap``, so that what trains on a CPU trains on a GPU.
    ``tangents`` says whether the estimator needs those of ``Network.tangent``.
    """
    draw = torch.Generator().manual_seed(0)
    sample = run_loss.sample[:ROWS].double()
    noise = {
        site: torch.randn(len(sample), *shape, generator=draw, dtype=theta.dtype)
        for site, shape in enumerate(noise_shapes)
        if shape is not None
    }
    w = torch.randn(theta.shape, generator=draw, dtype=theta.dtype)
    slopes = []
    for part in (0.5, 0.3, 0.9):  # a single value may be a stationary point
        h = torch.tensor([box.low + part * (box.high - box.low) for box in run_loss.layout.ranges], dtype=theta.dtype)
        for members in (1, 2):
            group = Group(
                run_loss=run_loss,
                theta=theta.repeat(members, 1),
                x=sample.expand(members, *sample.shape),
                y=(torch.arange(len(sample)) % classes).expand(members, -1),
                h=h.repeat(members, 1),
                noise={site: drawn.expand(members, *drawn.shape) for site, drawn in noise.items()},
            )
            onto = w.repeat(members, 1)
            try:
                slope = group.mixed_vjp(onto)[0]
                if part == 0.5:
                    _ = group.gradient
                    if tangents:
                        z = onto.unsqueeze(1).repeat(1, len(h), 1)
                        group.tangent(z, len(sample), columns=range(len(h)), direct=h.new_ones(members, len(h)))
            except ConfigError:
                raise
            except Exception as error:  # the user's own code, so anything may come
                culprits = [config.model.name, *config.hyperparameters.custom]
                raise ConfigError(
                    f"outer.estimator = {config.outer.estimator!r}: the loss of {shortened(', '.join(culprits))} "
                    f"cannot be differentiated as it needs ({type(error).__name__}: {error})"
                ) from error
        slopes.append(slope)
    for (column, _), name in zip(run_loss.layout.custom, config.hyperparameters.custom, strict=True):
        found = [float(slope[column]) for slope in slopes]
        if not all(map(math.isfinite, found)) or not any(found):
            raise ConfigError(
                f"hyperparameters.custom = {quoted(name)}: at three values of its box the gradient's derivative with "
                f"respect to the value, along a random direction, is {found}: must be finite and not always 0; let the "
                "value act on the training by differentiable operations of torch"
            )
