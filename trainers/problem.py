"""A problem: the data of a configuration as tensors, and the stacked network that learns it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.config import Range, TrainConfig
from trainers.data.split import Split, load_split
from trainers.hypergradients import ESTIMATORS
from trainers.hypergradients.base import Task
from trainers.hyperparameters import Layout, lay_out
from trainers.networks.base import Network
from trainers.networks.perceptron.network import StackedMLP, parameters_of


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The three sets, on one device, and the network. Shared by every training of one configuration; never changed."""

    t1: tuple[Tensor, Tensor]  # x [M, ...], y [M]
    t2: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int
    network: Network
    layout: Layout
    data_hash: str

    def task(self, config: TrainConfig) -> Task:
        """What an estimator is told of a training."""
        return Task(network=self.network, layout=self.layout, config=config)


def load_problem(config: TrainConfig, device: str = "cpu") -> Problem:
    """Load the data, split it and lay out the network. Raises :class:`trainers.ConfigError` on bad input."""
    return build_problem(config, load_split(config.data), device)


def build_problem(config: TrainConfig, split: Split, device: str = "cpu") -> Problem:
    """The same from a split already loaded."""
    dtype = {"float32": torch.float32, "float64": torch.float64}[config.dtype]
    closed_form = config.model.name == "mlp" and not config.hyperparameters.custom

    def pair(x: object, y: object) -> tuple[Tensor, Tensor]:
        inputs = torch.as_tensor(x).to(device, dtype)
        return (inputs.flatten(1) if closed_form else inputs), torch.as_tensor(y).to(device)

    network, layout = _network(config, split, closed_form)
    return Problem(
        t1=pair(split.t1_x, split.t1_y),
        t2=pair(split.t2_x, split.t2_y),
        test=pair(split.test_x, split.test_y),
        classes=split.classes,
        network=network,
        layout=layout,
        data_hash=split.data_hash,
    )


def _network(config: TrainConfig, split: Split, closed_form: bool) -> tuple[Network, Layout]:
    shape = tuple(split.t1_x.shape[1:])
    if not closed_form:
        # torch.func takes a second to import: only where it is used
        from trainers.networks.module.network import StackedModule

        tangents = ESTIMATORS[config.outer.estimator].needs_tangents
        module = StackedModule(config, shape, split.classes, split.t1_x, tangents=tangents)
        return module, module.layout
    size = int(torch.Size(shape).numel())
    parameters = parameters_of(size, config.model.hidden, split.classes)
    layout = lay_out(config.hyperparameters, parameters, len(config.model.hidden))
    return StackedMLP(config.model, size, split.classes, layout), layout


def boxes(config: TrainConfig) -> dict[str, Range]:
    """The hyperparameters of a configuration by column name, in order, each with its box.

    Loads the data where the number of layers depends on it (a model of the user's own).
    """
    if config.model.name == "mlp":
        parameters = parameters_of(1, config.model.hidden, 1)  # names and layers do not depend on the widths
        layout = lay_out(config.hyperparameters, parameters, len(config.model.hidden))
    else:
        layout = load_problem(config).layout
    return dict(zip(layout.names, layout.ranges, strict=True))
