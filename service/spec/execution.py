"""How a study's work is done: none of it is hashed, and but for ``cpus_per_actor`` none of it affects the results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from service.errors import SpecError
from trainers.bounds import MOST_STEPS, between, check, require

MOST_RETRIES = 10**6


@dataclass(frozen=True)
class ExecutionConfig:
    """The actors that train the runs of a study, and what is done when they fail.

    ``runs_per_actor`` is the size of a pack, the runs that one actor trains as one batched computation. It is resolved
    when a study is created and then stays, because the rounding of a batched computation may depend on its size. For
    the same reason the number of threads of an actor, ``cpus_per_actor`` rounded down, stays as it was when the study
    was created, whatever a later spec says.
    """

    actors: Annotated[
        int | Literal["auto"], between(1, 100_000), "'auto': as many as the cluster has room for, now and later"
    ] = "auto"
    # Below a tenth, "auto" would start more processes than a node's memory holds.
    cpus_per_actor: Annotated[float, between(0.1, 1024), "CPU cores of an actor"] = 1.0
    gpus_per_actor: Annotated[float, between(0, 64), "GPUs of an actor; may be a part of one"] = 0.0
    memory_per_actor_gib: Annotated[
        float | None, between(0.001, 65_536), "the memory that an actor reserves, in GiB"
    ] = None
    runs_per_actor: Annotated[int | Literal["auto"], between(1, 100_000), "runs trained as one batched computation"] = 1
    checkpoint_every: Annotated[
        int | None, between(1, MOST_STEPS), "inner steps between checkpoints; without, a lost run starts again"
    ] = None
    loss_retries: Annotated[int, between(0, MOST_RETRIES), "for each run, after losing its worker, actor or node"] = 20
    failure_retries: Annotated[int, between(0, MOST_RETRIES), "for each run, after an exception in its training"] = 1
    hung_after_s: Annotated[
        float,
        between(1, 10**7),
        "seconds without a sign of life until an actor is replaced; longer where trainings need longer",
    ] = 300.0
    load_timeout_s: Annotated[
        float, between(1, 10**7), "seconds that the user's own modules and functions may take until they are given up"
    ] = 300.0
    resource_timeout_s: Annotated[float, between(0, 10**7), "seconds to wait for a node that fits an actor"] = 0.0

    def __post_init__(self) -> None:
        check(self, "execution", SpecError)
        gpus = self.gpus_per_actor
        possible = gpus == 0 or 0.01 <= gpus <= 1 or gpus == int(gpus)  # Ray offers no other
        require(
            possible, "execution.gpus_per_actor", gpus, "0, a part of one GPU from 0.01, or a whole number", SpecError
        )

    @property
    def threads(self) -> int:
        """With how many threads an actor computes, where its machine has so many cores."""
        return max(1, int(self.cpus_per_actor))
