"""Trainers for the benchmark of the service: runs that take no time, and runs of one second."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from trainers.config import TrainConfig
from trainers.records import Checkpoint, Member, Point, Record, Result


def train(
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """One point and one result for each member."""
    for i, member in enumerate(members):
        values = member.hyperparameters
        yield Point(i, config.inner.steps, values, dict.fromkeys(values, 0.0), 0.5, 0.5)
        yield Result(i, "completed", config.inner.steps, values, values, 0.5, 0.5, 0.1, 0.5, 0.1, 0.0)


def one_second(
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """A second of a core, by its own clock of work."""
    start = time.perf_counter()
    while time.perf_counter() - start < 1.0:
        pass
    yield from train(config, members, online=online)
