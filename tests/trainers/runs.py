"""Trainings taken apart: their records by kind and member, and everything in them bit by bit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from trainers import Checkpoint, Member, Point, Problem, Result, TrainConfig, train
from trainers.records import Record

TUNED = {"log10_l2": -3.0, "input_noise_std": 0.3}


def run(
    problem: Problem,
    config: TrainConfig,
    members: Sequence[Member],
    online: bool = True,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> list[Record]:
    return list(train(problem, config, members, online=online, checkpoint_every=checkpoint_every, resume=resume))


def points(records: Sequence[Record], member: int | None = None) -> list[Point]:
    return [r for r in records if isinstance(r, Point) and member in (None, r.member)]


def results(records: Sequence[Record]) -> list[Result]:
    return [r for r in records if isinstance(r, Result)]


def checkpoints(records: Sequence[Record]) -> list[Checkpoint]:
    return [r for r in records if isinstance(r, Checkpoint)]


def after(records: Sequence[Record], step: int) -> list[Record]:
    """What a training resumed at ``step`` has to give again."""
    return [r for r in records if isinstance(r, Result) or r.step > step]


def of_member(records: Sequence[Record], member: int) -> list[Record]:
    return [r for r in records if not isinstance(r, Checkpoint) and r.member == member]


def bits(records: Sequence[Record]) -> list[str]:
    """All but times and places in the pack, exactly: every bit of every number, and NaN like NaN."""
    out = []
    for record in records:
        content = {key: value for key, value in vars(record).items() if key not in ("train_time_s", "member")}
        if isinstance(record, Checkpoint):
            content["tensors"] = {
                name: (str(t.dtype), tuple(t.shape), t.numpy().tobytes())
                for name, t in sorted(record.tensors.items())
                if name != "seconds"
            }
        out.append(f"{type(record).__name__} {content!r}")
    return out


def assert_close(found: Sequence[Record], wanted: Sequence[Record], rel: float, abs_: float) -> None:
    """The same records but for the rounding of their numbers; times and places in the pack aside."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert type(one) is type(other)
        for key in vars(one).keys() - {"member", "train_time_s"}:
            a, b = getattr(one, key), getattr(other, key)
            assert a == (b if isinstance(b, str) else pytest.approx(b, rel=rel, abs=abs_, nan_ok=True)), key
