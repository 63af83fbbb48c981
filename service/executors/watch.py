"""Notices workers that hang: that live, and do nothing.

A worker counts its *signs of life*: each record that its training yields, and each job that it ends. A process that is
stopped answers no question about them; one whose training is deadlocked answers with the count of before. How long a
worker may be silent follows from the silences measured so far in jobs of the same kind (see :class:`Patience`). It is
asked only when it has been silent for a third of that, so that the calls of normal operation cost nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.executors.base import Place, Task

FACTOR = 10.0  # a silence this many times the longest one of its kind is no part of a training
ASK_AFTER, ASK_EVERY = 1 / 3, 1 / 12  # of the patience
MOST_DOUBLINGS = 6
COMPUTES = 0.01  # of a core: a thread that waits, even one that looks again ten times a second, uses less
LONGEST_LOOK_S = 2.0

Kind = tuple[int, bool, int]  # of jobs that take about as long: model, whether tuned, size of the pack


class Signs(NamedTuple):
    """What a worker answers when it is asked whether it goes on."""

    place: Place
    given: int  # records yielded and jobs ended
    cpu_s: float  # computing time of the thread that trains


class Clock:
    """Seconds during which the watching process itself was at work.

    A driver that was stopped for an hour has heard of nobody for an hour, and nobody else is to blame for that: of the
    time between two looks at the clock, at most :data:`LONGEST_LOOK_S` seconds count.
    """

    def __init__(self, now: float) -> None:
        self._last, self.time = now, 0.0

    def look(self, now: float) -> float:
        """The time on this clock, when a monotonic one shows ``now``."""
        self.time += min(now - self._last, LONGEST_LOOK_S)
        self._last = now
        return self.time


class Patience:
    """How long a worker may give no sign of life: ``hung_after_s`` seconds, longer where trainings need longer.

    Where jobs of a kind have ended, it is at least :data:`FACTOR` times the longest silence in any of them. Where none
    has, nothing is known of how often they yield a record. Then computing is a sign of life as well; and each further
    attempt at the job doubles the patience, up to :data:`MOST_DOUBLINGS` times, for trainings that wait for another
    process and use no computing time of their own.
    """

    def __init__(self, hung_after_s: float, load_timeout_s: float) -> None:
        self._hung_after_s, self._load_timeout_s = hung_after_s, load_timeout_s
        self._longest: dict[Kind, float] = {}

    def learn(self, task: Task, silence_s: float) -> None:
        """A job has ended, and this was its longest silence."""
        kind = _kind(task)
        self._longest[kind] = max(silence_s, self._longest.get(kind, 0.0))

    def computing_counts(self, tasks: Collection[Task]) -> bool:
        """Whether a worker that computes is taken for alive with these jobs, because one of them is of a kind unknown.

        So it is without jobs, when a worker prepares itself.
        """
        return not tasks or any(_kind(task) not in self._longest for task in tasks)

    def limit_s(self, tasks: Collection[Task]) -> float:
        """How long a worker with these jobs may be silent; without jobs it prepares itself."""
        return max(map(self._limit_of, tasks), default=self._load_timeout_s)

    def _limit_of(self, task: Task) -> float:
        longest = self._longest.get(_kind(task))
        if longest is not None:
            return max(self._hung_after_s, FACTOR * longest)
        doublings: int = min(task.attempt - 1, MOST_DOUBLINGS)
        return self._hung_after_s * 2.0**doublings


@dataclass(slots=True)
class Pulse:
    """What is known of the signs of life of one worker. All times are of a :class:`Clock`."""

    heard_at: float  # the latest sign of life
    question: Any = None  # what it has been asked and has not answered
    asked_at: float = -1.0  # when it was asked last
    doubted_at: float = -1.0  # when it was asked first since its latest sign of life
    known: Signs | None = None  # its latest answer since it began what it is at
    known_at: float = 0.0

    def begins(self, now: float) -> None:
        """It has begun something: what it was asked and has answered before is of no use."""
        self.heard_at, self.question, self.known = now, None, None

    def is_due(self, now: float, limit_s: float) -> bool:
        """Whether to ask it now."""
        if self.question is not None or now - self.heard_at < ASK_AFTER * limit_s:
            return False
        return self.asked_at <= self.heard_at or now - self.asked_at >= ASK_EVERY * limit_s

    def asks(self, question: Any, now: float) -> None:
        """It is asked; ``question`` stands for the answer to come."""
        if self.doubted_at <= self.heard_at:
            self.doubted_at = now
        self.question, self.asked_at = question, now

    def answers(self, signs: Signs, now: float, *, computing_counts: bool) -> None:
        """It has answered. The first answer tells only what later ones are compared with."""
        before, passed = self.known, now - self.known_at
        self.question, self.known, self.known_at = None, signs, now
        if before is None:
            return
        computed = signs.cpu_s - before.cpu_s >= COMPUTES * passed
        if signs.given != before.given or (computing_counts and computed):
            self.heard_at = now

    def is_hung(self, now: float, limit_s: float) -> bool:
        """Whether it has been silent for too long, though it was asked and had time to answer."""
        had_time = self.doubted_at > self.heard_at and now - self.doubted_at >= ASK_EVERY * limit_s
        return had_time and now - self.heard_at >= limit_s


def _kind(task: Task) -> Kind:
    return task.pack.model, task.pack.arm.tuned, len(task.runs)
