"""Trainers that take no time: what they yield depends on the members alone, as a real one's does."""

from __future__ import annotations

import os
import signal
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

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
    """Two points for each member; online training adds the seed's last digits to every hyperparameter."""
    for i, member in enumerate(members):
        final = {
            name: value + (member.seed % 97 / 1000 if online else 0.0) for name, value in member.hyperparameters.items()
        }
        for step in (0, config.inner.steps):
            values = final if step else member.hyperparameters
            yield Point(
                member=i,
                step=step,
                hyperparameters=values,
                hypergradient={name: float("nan") for name in values},
                t1_loss=1.0 / (step + 1),
                t2_loss=0.5,
            )
        loss = (member.seed % 1009) / 1009 + sum(final.values()) / 10
        yield Result(
            member=i,
            status="completed",
            steps=config.inner.steps,
            initial=dict(member.hyperparameters),
            final=final,
            t1_loss=loss,
            t2_loss=loss + 0.1,
            t2_error=0.25,
            test_loss=loss + 0.2,
            test_error=0.5,
            train_time_s=0.001,
        )


def failing(
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """Raises for one seed in three; one seed in three diverges."""
    if any(member.seed % 3 == 0 for member in members):
        raise RuntimeError("this seed is poisoned")
    for record in train(config, members, online=online):
        if isinstance(record, Result) and members[record.member].seed % 3 == 1:
            losses = ("t1_loss", "t2_loss", "t2_error", "test_loss", "test_error")
            unknown: dict[str, Any] = dict.fromkeys(losses, float("nan"))
            yield replace(record, status="diverged", steps=7, final=record.initial, **unknown)
        else:
            yield record


def slow(
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """Half a second a run, with a checkpoint in the middle that remembers who made it."""
    if resume is None:
        time.sleep(0.25)
        if checkpoint_every:
            yield Checkpoint(checkpoint_every, {"pid": torch.tensor(os.getpid())})
    time.sleep(0.25)
    yield from train(config, members, online=online)


def ticketed(
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """Waits for a ticket in the directory ``$TOY_TICKETS`` and takes it; a file ``open`` there lets all pass.

    A ticket is good for every attempt at its run. Takes longer than :data:`service.executors.ray_actors.CALL_S`,
    so that no call to an actor holds several runs.
    """
    time.sleep(0.25)
    place = Path(os.environ["TOY_TICKETS"])
    run = repr([config.model.label, online, *((member.seed, member.hyperparameters) for member in members)])
    taken = place / f"taken-{zlib.crc32(run.encode())}"
    while place.exists() and not (place / "open").exists() and not taken.exists():
        with suppress(FileNotFoundError, StopIteration):  # none there, or another worker was quicker
            next(place.glob("ticket-*")).rename(taken)
        time.sleep(0.02)
    yield from train(config, members, online=online)


def real(
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """The real trainer; but no run of the grid's last cell ends while there is a file ``$TOY_HELD``."""
    from trainers import boxes, load_problem, train

    ends = {name: box.high for name, box in boxes(config).items()}
    for record in train(
        load_problem(config), config, members, online=online, checkpoint_every=checkpoint_every, resume=resume
    ):
        while isinstance(record, Result) and record.initial == ends and Path(os.environ["TOY_HELD"]).exists():
            time.sleep(0.02)
        yield record


def meeting(
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """Goes on once two processes are training: each leaves its number in the directory ``$TOY_MEETING``."""
    place = Path(os.environ["TOY_MEETING"])
    (place / str(os.getpid())).touch()
    end = time.monotonic() + 120
    while len(list(place.iterdir())) < 2:
        if time.monotonic() > end:
            raise TimeoutError("nobody else trains")
        time.sleep(0.02)
    yield from train(config, members, online=online)


def deadly(
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """Kills its own process for one seed in eight."""
    if any(member.seed % 8 == 0 for member in members):
        os.kill(os.getpid(), signal.SIGKILL)
    yield from train(config, members, online=online)


def hanging(
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """Hangs at two packs, once each: at the first its process is stopped, at the other its training waits for ever.

    Before, it leaves a file in the directory ``$TOY_HANGS``: ``stopped-PID`` or ``waits-PID``.
    """
    if online and len(members) == 1:
        for way in ("stopped", "waits"):
            place = Path(os.environ["TOY_HANGS"]) / way
            with suppress(FileNotFoundError):  # the other worker was quicker
                place.rename(f"{place}-{os.getpid()}")
                if way == "stopped":
                    os.kill(os.getpid(), signal.SIGSTOP)
                else:
                    threading.Event().wait()
                break
    yield from train(config, members, online=online)


def counting(
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """Leaves a file for every pack in the directory ``$TOY_CALLS``."""
    calls = Path(os.environ["TOY_CALLS"])
    (calls / f"{online}-{'-'.join(str(member.seed) for member in members)}-{time.time_ns()}").touch()
    yield from train(config, members, online=online)


def moody(
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """Fails for one seed in three while ``$TOY_MOOD`` is set."""
    yield from (failing if os.environ.get("TOY_MOOD") else train)(config, members, online=online)
