"""What is allowed and yet is surely a slip, such as a zero too many: it wants ``--yes``.

A measure is taken only of what could be that large, and takes about a second.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from service.errors import SpecError
from service.spec.arms import ARMS
from service.spec.packing import pack_size_of
from trainers.config import LOOK_UP, ConfigError, TrainConfig
from trainers.sizes import INPUT_SHAPES, operations

if TYPE_CHECKING:
    from service.spec.study_spec import StudySpec

YesOption = Annotated[
    bool, typer.Option("--yes", help="Do it, however large: otherwise a surely mistaken size is refused.")
]

MANY_RUNS = 10**6
CORE_YEAR_S = 365 * 86400.0
POINT_BYTES = 57  # of a trajectory, on the disk (service/README.md)
MANY_BYTES = 2**40
ACTOR_BYTES = 0.35 * 2**30  # a process with torch, before it trains
# Operations a second of one core: more than any has, and what each has at least.
FASTEST, SLOWEST = 1e11, 1e9
STEP_S = 1e-3  # what a step takes beyond its operations, at most
MEASURE_S = 0.3
LARGEST_MEASURED_PACK = 64


def ask_about_slips(spec: StudySpec, yes: bool, *, here: bool = False) -> None:
    """Raise :class:`SpecError` for a study that is surely larger than it was meant to be, unless the user said yes.

    ``here``: its actors are processes of this machine.
    """
    if yes:
        return
    reasons = list(_reasons(spec, here))
    if reasons:
        raise SpecError(f"{spec.name}: {'; '.join(reasons)}. If that is meant, give the command again with --yes")


def _reasons(spec: StudySpec, here: bool) -> Iterator[str]:
    runs = spec.planned_runs
    if runs > MANY_RUNS:
        yield f"the study has {runs:,} runs (more than {MANY_RUNS:,})"
    on_disk = runs * (spec.inner.steps // spec.record_every + 2) * POINT_BYTES
    if on_disk > MANY_BYTES:
        yield f"its trajectories take about {on_disk / 2**40:,.1f} TiB (record_every = {spec.record_every})"
    years = core_years(spec) if runs <= MANY_RUNS else 0.0  # which is reason enough, and quickly told
    if years > 1:
        yield f"its trainings take some {years:,.1f} years of one core (more than 1)"
    actors = spec.execution.actors
    if here and isinstance(actors, int) and actors > 2 * (os.cpu_count() or 1):
        from trainers.memory import available_here  # imports torch

        free = available_here()
        if free is not None and actors * ACTOR_BYTES > free:
            taken = actors * ACTOR_BYTES
            yield f"its {actors:,} actors take about {taken / 2**30:,.0f} GiB, and {free / 2**30:,.0f} GiB are free"


def core_years(spec: StudySpec) -> float:
    """For how many years the trainings of a study would keep one core busy; 0 where it is surely less than one.

    Of trainers, networks and data of the user's own nothing is known, and of GPUs nothing is said: 0 as well.
    """
    own = spec.trainer != "t1t2" or bool(spec.hyperparameters.custom) or spec.data.name not in INPUT_SHAPES
    if own or spec.execution.gpus_per_actor > 0:
        return 0.0
    total = 0.0
    configs = [config for config in spec.train_configs() if LOOK_UP not in config.model.name]
    for config in configs:
        steps = spec.planned_runs / len(spec.models) * config.inner.steps
        work = operations(
            INPUT_SHAPES[config.data.name],
            config.model.channels if config.model.name == "cnn" else config.model.hidden,
            config.inner.batch_size,
            convolutional=config.model.name == "cnn",
        )
        if len(configs) * steps * (STEP_S + 4 * work / SLOWEST) > CORE_YEAR_S:
            total += steps * _step_seconds(spec, config, work)
    return total / CORE_YEAR_S


def _step_seconds(spec: StudySpec, config: TrainConfig, work: int) -> float:
    """Seconds of one core for a step of one run, measured here in a pack as the study has them."""
    members = max(1, min(pack_size_of(spec), LARGEST_MEASURED_PACK))
    if work * members / SLOWEST > MEASURE_S:
        return work / FASTEST  # a step is too long to be tried: at the least
    import torch

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        return _measured(config, members, online=any(ARMS[name].tuned for name in spec.arms))
    except ConfigError:  # no data here, for example: whoever trains will say so
        return 0.0
    finally:
        torch.set_num_threads(threads)


def _measured(config: TrainConfig, count: int, *, online: bool) -> float:
    """Train a little, then longer: the quickest counts, because the first steps are slow, and so is a busy machine."""
    from trainers import Member, Result, load_problem, train

    problem = load_problem(config)
    layout = problem.layout
    centre = {name: (box.low + box.high) / 2 for name, box in zip(layout.names, layout.ranges, strict=True)}
    members = [Member(seed, centre) for seed in range(count)]
    steps, best, began = min(config.outer.every if online else 1, 10), math.inf, time.monotonic()
    for attempt in itertools.count():
        short = replace(config, inner=replace(config.inner, steps=steps), record_every=steps)
        records = train(problem, short, members, online=online)
        took = sum(record.train_time_s for record in records if isinstance(record, Result))  # of the whole pack
        best = min(best, took / count / steps)
        if attempt and time.monotonic() - began > MEASURE_S:
            break
        steps *= 2
    return best
