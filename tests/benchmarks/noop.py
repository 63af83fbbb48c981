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
        values, steps = member.hyperparameters, config.inner.steps
        yield Point(
            member=i,
            step=steps,
            hyperparameters=values,
            hypergradient=dict.fromkeys(values, 0.0),
            t1_loss=0.5,
            t2_loss=0.5,
        )
        yield Result(
            member=i,
            status="completed",
            steps=steps,
            initial=values,
            final=values,
            t1_loss=0.5,
            t2_loss=0.5,
            t2_error=0.1,
            test_loss=0.5,
            test_error=0.1,
            train_time_s=0.0,
        )


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
