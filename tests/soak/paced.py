"""The real trainer, which rests after each record while ``$SOAK_PACE_S`` is set: longer runs of the same results.

A soak needs many runs that are at work when something dies, and few that a calm run must train once more to compare.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from trainers.config import TrainConfig
from trainers.records import Checkpoint, Member, Record

PACE = "SOAK_PACE_S"


def train(
    config: TrainConfig,
    members: Sequence[Member],
    *,
    online: bool,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[Record]:
    """What :func:`trainers.train` yields."""
    from trainers import load_problem, train

    pace_s = float(os.environ.get(PACE, "0"))
    for record in train(
        load_problem(config), config, members, online=online, checkpoint_every=checkpoint_every, resume=resume
    ):
        yield record
        time.sleep(pace_s)
