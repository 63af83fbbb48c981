"""Does a study fit the memory that there is? Asked when it is created, before anything is made of its networks."""

from __future__ import annotations

import os

from service.errors import SpecError
from service.spec.arms import ARMS
from service.spec.packing import pack_size_of
from service.spec.study_spec import StudySpec
from trainers.config import ConfigError, TrainConfig
from trainers.errors import quoted

# The trial of a convolutional network, which making a plan includes: its examples, and the tensors of the size of their
# activations that it has at one time: the convolutions' outputs, what follows them, and the gradients of both.
PROBED, PROBED_COPIES = 256, 4


def check_reserved(spec: StudySpec) -> None:
    """Raise :class:`SpecError` for a network of which a pack needs more than ``execution.memory_per_actor_gib``.

    By a lower bound: what passes may still be too large. Trainers of the user's own are not judged.
    """
    reserved = spec.execution.memory_per_actor_gib
    if reserved is None or spec.trainer != "t1t2":
        return
    pack_size = pack_size_of(spec)
    for config in spec.train_configs():
        needed = (config.least_bytes() or 0) * pack_size / 2**30
        if needed > reserved:
            raise SpecError(
                f"{_network(config)}: {pack_size} trainings side by side need at least {needed:.2g} GiB: must need at "
                f"most execution.memory_per_actor_gib = {reserved:g}; runs_per_actor says how many are side by side"
            )


def check_plannable(config: TrainConfig) -> None:
    """Raise :class:`SpecError` for a convolutional network that this machine cannot even try out."""
    if config.model.name != "cnn":
        return
    from trainers.memory import available_here  # imports torch

    free, needed = available_here(), config.least_bytes(PROBED * PROBED_COPIES)
    if free is not None and needed is not None and needed > free:
        raise SpecError(
            f"{_network(config)}: a trial of it needs at least {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB "
            "are available here: give fewer channels"
        )


def check_machine(spec: StudySpec) -> None:
    """Raise :class:`SpecError` for a perceptron of which a pack is beyond the memory of this machine, which trains it.

    By the estimate that an actor makes before it trains. Where actors train elsewhere, theirs alone counts.
    """
    from trainers.memory import check_ahead

    if spec.trainer != "t1t2" or spec.execution.gpus_per_actor > 0:
        return
    execution, cores = spec.execution, os.cpu_count() or 1
    actors = max(1, int(cores / execution.cpus_per_actor)) if execution.actors == "auto" else execution.actors
    on_grid = spec.grid.cells * spec.grid.replicates if spec.has_grid else 0
    members = min(pack_size_of(spec), max(spec.configurations * spec.replicates, on_grid))
    for config in spec.train_configs():
        try:
            check_ahead(config, members, online=any(ARMS[name].tuned for name in spec.arms), actors=actors)
        except ConfigError as error:
            raise SpecError(f"{_network(config)}: {error}") from None


def _network(config: TrainConfig) -> str:
    """The setting that decides the size of a network, with its value."""
    key = "hidden" if config.model.name == "mlp" else "channels"
    return f"models.{key} = {quoted(list(getattr(config.model, key)))}"
