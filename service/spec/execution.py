"""How a study's work is done: none of it affects the results, and none of it is hashed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from service.errors import SpecError
from trainers.bounds import POSITIVE, at_least, check


@dataclass(frozen=True)
class ExecutionConfig:
    """The actors that train the runs of a study, and what is done when they fail.

    ``runs_per_actor`` is the size of a pack, the runs that one actor trains as one batched computation. It is resolved
    when a study is created and then stays, because the rounding of a batched computation may depend on its size.
    """

    actors: Annotated[
        int | Literal["auto"], at_least(1), "'auto': as many as the cluster has room for, now and later"
    ] = "auto"
    cpus_per_actor: Annotated[float, POSITIVE, "CPU cores of an actor"] = 1.0
    gpus_per_actor: Annotated[float, at_least(0), "GPUs of an actor; may be a part of one"] = 0.0
    memory_per_actor_gib: Annotated[float | None, POSITIVE, "the memory that an actor reserves, in GiB"] = None
    runs_per_actor: Annotated[int | Literal["auto"], at_least(1), "runs trained as one batched computation"] = 1
    checkpoint_every: Annotated[
        int | None, at_least(1), "inner steps between checkpoints; without, a lost run starts again"
    ] = None
    loss_retries: Annotated[int, at_least(0), "for each run, after losing its worker, actor or node"] = 20
    failure_retries: Annotated[int, at_least(0), "for each run, after an exception in its training"] = 1
    resource_timeout_s: Annotated[float, at_least(0), "seconds to wait for a node that fits an actor"] = 0.0

    def __post_init__(self) -> None:
        check(self, "execution", SpecError)
