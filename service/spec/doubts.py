"""What is allowed in a spec and yet makes one wonder: settings that have no effect, or that stop another's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from service.spec.arms import ARMS
from service.spec.study_spec import StudySpec
from trainers.config import LOOK_UP, ModelConfig

# Where a setting has an effect: the setting that decides, and its values. Anywhere else a value of its own is idle.
NEEDS = {
    ("inner", "momentum"): ("optimiser", ("momentum",)),
    ("inner", "betas"): ("optimiser", ("adam",)),
    ("inner", "epsilon"): ("optimiser", ("adam",)),
    ("outer", "betas"): ("optimiser", ("adam",)),
    ("outer", "epsilon"): ("optimiser", ("adam",)),
    ("outer", "carry"): ("estimator", ("forward",)),
    ("outer", "memory"): ("estimator", ("forward",)),
    ("outer", "tangent_batch"): ("estimator", ("forward",)),
    ("outer", "tangent_every"): ("estimator", ("forward",)),
    ("outer", "antithetic"): ("estimator", ("forward",)),
    ("outer", "averaging"): ("estimator", ("forward", "t1t2_lagged")),
    ("outer", "look_back"): ("estimator", ("neumann",)),
}
MODEL_SETTINGS = {"mlp": ("hidden", "activation"), "cnn": ("channels", "activation", "batch_norm")}  # that it heeds


def doubts_about(spec: StudySpec) -> list[str]:
    """One line for each doubt about a spec, without its end; none about one that is as it should be.

    A key that has its default value is never doubted, because nobody may have written it.
    """
    return [*_idle(spec), *_too_late(spec), *_of_the_work(spec)]


def _idle(spec: StudySpec) -> Iterator[str]:
    """Settings of one's own that change nothing."""
    defaults = StudySpec(name="defaults")
    for (table, key), (decides, values) in NEEDS.items():
        settings = getattr(spec, table)
        changed = getattr(settings, key) != getattr(getattr(defaults, table), key)
        if changed and getattr(settings, decides) not in values:
            allowed = " or ".join(map(repr, values))
            yield f"{table}.{key}: has no effect where {table}.{decides} is not {allowed}"
    for model in spec.models:
        kind = "module" if LOOK_UP in model.name else model.name
        for field in dataclasses.fields(ModelConfig):
            heeded = field.name == "name" or field.name in MODEL_SETTINGS.get(kind, ())
            if not heeded and getattr(model, field.name) != getattr(ModelConfig(), field.name):
                yield f"models.{field.name}: has no effect on {model.name!r}"
    if spec.grid != defaults.grid and not spec.has_grid:
        yield "grid: has no effect, because arms does not name 'grid'"


def _too_late(spec: StudySpec) -> Iterator[str]:
    """What would first happen after the last step."""
    steps, outer = spec.inner.steps, spec.outer
    tuned = [name for name in spec.arms if ARMS[name].tuned]
    first = outer.every * (outer.warmup_steps // outer.every + 1)
    if tuned and first > steps:
        names = " and ".join(map(repr, tuned))
        yield (
            f"outer.every = {outer.every:,}, outer.warmup_steps = {outer.warmup_steps:,}: the first outer step would "
            f"come at step {first:,} of {steps:,}, so the arm {names} tunes nothing"
        )
    if spec.record_every > steps and spec.record_every != StudySpec(name="defaults").record_every:
        yield f"record_every = {spec.record_every:,}: a trajectory of {steps:,} steps has its two ends alone"
    every = spec.execution.checkpoint_every
    if every is not None and every >= steps:
        yield f"execution.checkpoint_every = {every:,}: a training of {steps:,} steps has no checkpoint"


def _of_the_work(spec: StudySpec) -> Iterator[str]:
    """How the work is to be done."""
    execution = spec.execution
    if execution.actors == "auto" and execution.cpus_per_actor < 1 and execution.gpus_per_actor == 0:
        each = int(1 / execution.cpus_per_actor)
        if each > 1:
            yield (
                f"execution.cpus_per_actor = {execution.cpus_per_actor:g}: with actors = 'auto', {each} actors share "
                "each core, each with a process and the data of its own"
            )
