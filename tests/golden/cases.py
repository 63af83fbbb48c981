"""The trainings and the study whose numbers are kept: every estimator, inner optimiser and kind of network, once each.

All of it goes through documented names, so that an old checkout and a new one are asked the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from service import StudySpec, run_study
from service.executors.serial import SerialExecutor
from trainers import Checkpoint, Member, Point, Result, TrainConfig, boxes, load_problem, train
from trainers.config import DataConfig, HyperparameterConfig, InnerConfig, ModelConfig, OuterConfig, Range

ESTIMATORS = ("t1t2", "t1t2_at_theta", "t1t2_lagged", "seed_literal", "neumann", "forward")
OPTIMISERS = ("sgd", "momentum", "adam")
STEPS = 12
CHECKPOINT_AT = 8  # not a multiple of ``tangent_every`` nor of ``every``

TIED = HyperparameterConfig()  # what a study tunes by default
LAYERED = HyperparameterConfig(
    log10_l2=Range(-4.0, 0.0, learning_rate=0.1, scope="layer"),
    input_noise_std=Range(0.0, 0.8, learning_rate=0.05),
    hidden_noise_std=Range(0.0, 0.6, learning_rate=0.05, scope="layer"),
    label_smoothing=Range(0.0, 0.3, learning_rate=0.02),
)
CUSTOM = HyperparameterConfig(
    log10_l2=Range(-4.0, 0.0, learning_rate=0.1),
    input_noise_std=None,
    custom={
        f"tests.trainers.regularisers:{name}": Range(0.01, 0.5, learning_rate=0.02)
        for name in ("contrast", "everything")
    },
)


def configurations() -> Iterator[tuple[str, TrainConfig]]:
    """Every training, by name."""
    for estimator, optimiser in itertools.product(ESTIMATORS, OPTIMISERS):
        hyperparameters = LAYERED
        if estimator == "seed_literal":  # the slides have formulas for two hyperparameters only
            hyperparameters = dataclasses.replace(LAYERED, hidden_noise_std=None, label_smoothing=None)
        choices = itertools.product((False, True), (0.0, 0.9)) if estimator == "forward" else [(False, 0.0)]
        for antithetic, averaging in choices:
            words = [estimator, optimiser, *["antithetic"] * antithetic, *["averaged"] * bool(averaging)]
            outer = {"estimator": estimator, "antithetic": antithetic, "averaging": averaging}
            yield "-".join(["perceptron", *words]), _config(optimiser, outer, hyperparameters)
    tanh = ModelConfig(hidden=(6,), activation="tanh")
    yield "perceptron-tanh-forward", _config("sgd", {"estimator": "forward", "averaging": 0.9}, LAYERED, tanh)
    yield "perceptron-default", dataclasses.replace(_config("sgd", {}, TIED), dtype="float32")
    cnn = ModelConfig("cnn", channels=(2, 3), batch_norm=True)
    noisy = dataclasses.replace(LAYERED, label_smoothing=None)
    for estimator, optimiser in (("t1t2", "sgd"), ("neumann", "momentum"), ("forward", "sgd"), ("forward", "adam")):
        yield f"cnn-{estimator}-{optimiser}", _config(optimiser, {"estimator": estimator}, noisy, cnn)
    for estimator in ("t1t2", "forward"):
        yield f"custom-{estimator}", _config("sgd", {"estimator": estimator}, CUSTOM)


def _config(
    optimiser: str,
    outer: dict[str, Any],
    hyperparameters: HyperparameterConfig,
    model: ModelConfig = ModelConfig(hidden=(6, 5)),  # noqa: B008  # frozen
) -> TrainConfig:
    rates = {"sgd": 0.2, "momentum": 0.05, "adam": 0.01}
    return TrainConfig(
        DataConfig("digits", t1_size=60, t2_size=40, test_size=50),
        model,
        hyperparameters,
        InnerConfig(optimiser=optimiser, learning_rate=rates[optimiser], steps=STEPS, batch_size=20),  # type: ignore[arg-type]
        OuterConfig(**({"every": 3, "batch_size": 20, "tangent_batch": 8, "tangent_every": 2} | outer)),
        record_every=4,
        dtype="float64",
    )


CONTINUED = "perceptron-forward-adam-antithetic-averaged"  # whose checkpoint is kept as a file


def members(config: TrainConfig) -> list[Member]:
    """Two, in different places of the box."""
    found = boxes(config)
    return [
        Member(seed, {name: box.low + share * (box.high - box.low) for name, box in found.items()})
        for seed, share in ((11, 0.3), (12, 0.8))
    ]


def first_checkpoint(config: TrainConfig) -> Checkpoint:
    """The training at step :data:`CHECKPOINT_AT`."""
    records = train(load_problem(config), config, members(config), online=True, checkpoint_every=CHECKPOINT_AT)
    return next(record for record in records if isinstance(record, Checkpoint))


def training(config: TrainConfig, resume: Checkpoint | None = None) -> dict[str, Any]:
    """What a training gives, but for its times: records, and the checkpoint by tensor."""
    out: dict[str, Any] = {"points": [], "results": [], "checkpoint": {}}
    records = train(
        load_problem(config),
        config,
        members(config),
        online=True,
        checkpoint_every=None if resume else CHECKPOINT_AT,
        resume=resume,
    )
    for record in records:
        if isinstance(record, Checkpoint):
            out["checkpoint"] = {name: _tensor(value) for name, value in record.tensors.items() if name != "seconds"}
        else:
            values = {key: value for key, value in dataclasses.asdict(record).items() if key != "train_time_s"}
            out["points" if isinstance(record, Point) else "results"].append(values)
            assert isinstance(record, Point | Result)
    return out


def _tensor(value: torch.Tensor) -> dict[str, Any]:
    content = value.numpy().tobytes()
    return {
        "type": str(value.dtype),
        "shape": list(value.shape),
        "size": float(value.double().nan_to_num().abs().sum()),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


STUDY: dict[str, Any] = {
    "name": "golden", "seed": 3, "configurations": 2, "replicates": 2, "dtype": "float64", "record_every": 10,
    "arms": ["initial", "online", "rerun", "grid"],
    "data": {"name": "digits", "t1_size": 60, "t2_size": 40, "test_size": 50},
    "models": [{"hidden": [5]}, {"hidden": [4, 3]}],
    "hyperparameters": {
        "log10_l2": {"low": -4.0, "high": 0.0, "scope": "layer"}, "input_noise_std": {"low": 0.0, "high": 0.8},
    },
    "inner": {"learning_rate": 0.2, "steps": 20, "batch_size": 20},
    "outer": {"every": 5, "batch_size": 20},
    "grid": {"points": {"log10_l2": 2, "input_noise_std": 2}, "replicates": 1},
    "execution": {"runs_per_actor": 2},
}  # fmt: skip


def study() -> dict[str, Any]:
    """The identity and the published tables of a small study, column by column."""
    spec = StudySpec.from_dict(STUDY)
    out: dict[str, Any] = {"hash": spec.hash}
    with tempfile.TemporaryDirectory() as place:
        run_study(spec, Path(place) / "study", executor=SerialExecutor())
        for name in ("runs", "trajectories"):
            table = pq.read_table(Path(place) / "study" / f"{name}.parquet").drop_columns(
                ["train_time_s"] if name == "runs" else []
            )
            out[name] = {
                field.name: {"type": str(field.type), "values": table[field.name].to_pylist()} for field in table.schema
            }
    return out


def record() -> dict[str, Any]:
    """Everything, by name, in the types of JSON."""
    found = {name: training(config) for name, config in configurations()}
    whole: dict[str, Any] = plain(found | {"study": study()})
    return whole


def plain(value: Any) -> Any:
    """The same in the types of JSON; NaN and infinities, which it lacks, as words."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def differences(found: Any, kept: Any, rel: float = 0.0, where: str = "") -> Iterator[str]:
    """A line for each place where two records differ; numbers by more than ``rel`` of the larger, hashes if rel = 0."""
    if isinstance(found, dict) and isinstance(kept, dict):
        for key in sorted({*found, *kept} - ({"sha256"} if rel else set())):
            if key not in found or key not in kept:
                yield f"{where}/{key}: only in {'the second' if key in kept else 'the first'}"
            else:
                yield from differences(found[key], kept[key], rel, f"{where}/{key}")
    elif isinstance(found, list) and isinstance(kept, list) and len(found) == len(kept):
        for place, pair in enumerate(zip(found, kept, strict=True)):
            yield from differences(*pair, rel, f"{where}/{place}")
    elif isinstance(found, float) and isinstance(kept, float):
        if not math.isclose(found, kept, rel_tol=rel, abs_tol=rel / 10):
            yield f"{where}: {found!r} and {kept!r}"
    elif found != kept:
        yield f"{where}: {found!r} and {kept!r}"
