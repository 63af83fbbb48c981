"""Synthetic studies with a known answer, in the layout of a real study directory.

The truth is a quadratic bowl: with u the hyperparameters scaled to [0, 1] by their box and u* the model's optimum,

    E[loss](u) = floor + Σ_i curvature_i (u_i - u*_i)²

and a run's loss adds a seed effect, shared by the trainings with one seed, and an effect of its own. Online runs end
at u* plus normal scatter, except for a share of them that stay where they started. Nothing here imports analysis.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.analysis.study_files import attempts, schema, write_ledger, write_table

Floats = NDArray[np.float64]
FIXED_S = 10.0  # seconds of a training with fixed hyperparameters
CHUNK = 200_000  # recorded points of one arm written at a time, so that a million runs fit into memory


@dataclass(frozen=True)
class Truth:
    """What the synthetic trainings do; positions and spreads in box units (the box is [0, 1] in every direction)."""

    optimum: dict[str, tuple[float, ...]] = field(default_factory=lambda: {"mlp-64": (0.6, 0.5), "mlp-128": (0.6, 0.6)})
    curvature: tuple[float, ...] = (0.3, 1.5)  # nats for each squared box unit: a flat and a sensitive direction
    floor: float = 0.2  # nats, the T2 loss at the optimum
    shared_noise: float = 0.003  # nats, the seed effect that the arms of a configuration share
    own_noise: float = 0.004  # nats, what differs between two trainings with one seed
    stay: float = 0.1  # the share of online runs that do not move
    end_spread: float = 0.05  # standard deviation of the ends around the optimum
    online_bias: float = 0.002  # nats by which online is above its rerun
    overhead: float = 1.12  # time of online / time of initial
    test_gap: float = 0.02  # test loss minus T2 loss
    diverged: float = 0.0  # the share of runs that diverge

    @property
    def seed_noise(self) -> float:
        """Standard deviation of the T2 loss between seeds at fixed hyperparameters, nats."""
        return float(np.hypot(self.shared_noise, self.own_noise))

    def loss(self, u: Floats, model: str) -> Floats:
        """Expected T2 loss (nats) at box positions ``u`` [N, D]."""
        return np.asarray(self.floor + ((u - np.array(self.optimum[model])) ** 2 @ np.array(self.curvature)))


BOX = {"log10_l2": (-5.5, -2.5), "input_noise_std": (0.0, 0.8)}
ARMS = ("initial", "online", "rerun", "grid")


def write_study(
    directory: Path,
    *,
    truth: Truth | None = None,
    models: Sequence[str] = ("mlp-64", "mlp-128"),
    configurations: int = 24,
    arms: Sequence[str] = ARMS,
    grid: tuple[int, ...] = (5, 5),
    grid_replicates: int = 3,
    points: int = 10,
    record_every: int = 100,
    box: dict[str, tuple[float, float]] | None = None,
    layers: int = 0,
    name: str = "synthetic",
    seed: int = 0,
    estimator: str = "forward",
    bare: bool = False,
    shards: int = 0,
) -> Path:
    """Write a study directory and return it.

    ``points`` is the number of recorded points of a run; ``layers`` > 0 writes the first hyperparameter once for each
    layer; ``bare`` leaves study.json out; ``shards`` > 0 leaves the last part of the study in that many ledger shards,
    as while it runs.
    """
    truth = truth or Truth()
    box = box or BOX
    directory.mkdir(parents=True, exist_ok=True)
    columns = _columns(box, layers)
    rng = np.random.default_rng(seed)
    parts: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    writers: dict[str, pq.ParquetWriter] = {}
    for runs in _chunks(truth, models, configurations, arms, grid, grid_replicates, points, record_every, box, rng):
        trajectories = _trajectories(runs, truth, box, points, record_every)
        pair = _layered(runs, columns), _layered(trajectories, columns)
        if shards:
            parts.append(pair)
            continue
        for table, frame in zip(("runs", "trajectories"), pair, strict=True):
            arrow = pa.Table.from_pandas(frame, preserve_index=False, schema=schema(table, list(columns)))
            if table not in writers:
                writers[table] = pq.ParquetWriter(directory / f"{table}.parquet", arrow.schema)
            writers[table].write_table(arrow, row_group_size=100_000)
    for writer in writers.values():
        writer.close()
    if shards:
        write_ledger(directory, parts, list(columns), shards)
    else:
        runs_table = pq.read_table(directory / "runs.parquet", columns=["run_id", "status"]).to_pandas()
        write_table(directory / "attempts.parquet", "attempts", attempts(runs_table), list(columns))
    if not bare:
        spec = _spec(name, seed, configurations, arms, models, box, layers, grid, grid_replicates, estimator)
        spec["record_every"] = record_every
        study = {"schema_version": 1, "study_hash": "0" * 16, "spec": spec, "provenance": {}}
        (directory / "study.json").write_text(json.dumps(study, indent=1))
    return directory


def make_runs(
    truth: Truth | None = None,
    models: Sequence[str] = ("mlp-64",),
    configurations: int = 24,
    arms: Sequence[str] = ARMS,
    grid: tuple[int, ...] = (5, 5),
    grid_replicates: int = 3,
    seed: int = 0,
    box: dict[str, tuple[float, float]] | None = None,
) -> pd.DataFrame:
    """The runs table of a synthetic study, without a file."""
    rng = np.random.default_rng(seed)
    chunks = _chunks(truth or Truth(), models, configurations, arms, grid, grid_replicates, 10, 100, box or BOX, rng)
    runs: pd.DataFrame = pd.concat(chunks, ignore_index=True)
    return runs


def _columns(box: dict[str, tuple[float, float]], layers: int) -> dict[str, str]:
    """Column name -> hyperparameter."""
    first = next(iter(box))
    names = {f"{first}_layer{k + 1}": first for k in range(layers)} or {first: first}
    return names | {h: h for h in box if h != first}


def _chunks(
    truth: Truth,
    models: Sequence[str],
    configurations: int,
    arms: Sequence[str],
    grid: tuple[int, ...],
    grid_replicates: int,
    points: int,
    record_every: int,
    box: dict[str, tuple[float, float]],
    rng: np.random.Generator,
) -> Any:
    steps = points * record_every
    dims, offset = len(box), 0
    size = max(1, CHUNK // points)
    for begin in range(0, configurations, size):
        n = min(size, configurations - begin)
        start = rng.random((n, dims))
        seeds = rng.integers(2**31, size=n)
        shared = rng.normal(0, truth.shared_noise, n)
        for model in models:
            moved = truth.optimum[model] + rng.normal(0, truth.end_spread, (n, dims))
            end = np.where(rng.random((n, 1)) < truth.stay, start, np.clip(moved, 0, 1))
            frames = []
            for arm in (a for a in arms if a != "grid"):
                before, after = (start if arm != "rerun" else end), (start if arm == "initial" else end)
                bias = truth.online_bias if arm == "online" else 0.0
                frame = _runs(truth, model, arm, before, after, shared + bias, seeds, steps, box, rng)
                frames.append(frame.assign(config_index=np.arange(begin, begin + n), replicate=0))
            if frames:
                runs = pd.concat(frames).sort_values("config_index", kind="stable", ignore_index=True)
                yield runs.assign(run_id=[f"{offset + i:016x}" for i in range(len(runs))])
                offset += len(runs)
    if "grid" in arms:
        axes = [np.linspace(0, 1, k) for k in grid]
        cells = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
        shared = rng.normal(0, truth.shared_noise, grid_replicates)
        for model in models:
            frames = []
            for r in range(grid_replicates):
                seeds = np.full(len(cells), 1000 + r)
                common = np.full(len(cells), shared[r])
                frame = _runs(truth, model, "grid", cells, cells, common, seeds, steps, box, rng)
                frames.append(frame.assign(config_index=np.arange(len(cells)), replicate=r))
            runs = pd.concat(frames).sort_values(["config_index", "replicate"], ignore_index=True)
            yield runs.assign(run_id=[f"{offset + i:016x}" for i in range(len(runs))])
            offset += len(runs)


def _runs(
    truth: Truth,
    model: str,
    arm: str,
    before: Floats,
    after: Floats,
    shared: Floats,
    seeds: Any,
    steps: int,
    box: dict[str, tuple[float, float]],
    rng: np.random.Generator,
) -> pd.DataFrame:
    n = len(before)
    t2 = truth.loss(after, model) + shared + rng.normal(0, truth.own_noise, n)
    test = t2 + truth.test_gap + rng.normal(0, truth.own_noise / 2, n)
    ok = rng.random(n) >= truth.diverged
    seconds = FIXED_S * (truth.overhead if arm == "online" else 1.0) * rng.lognormal(0, 0.03, n)
    hyper: dict[str, Any] = {}
    for i, (h, (low, high)) in enumerate(box.items()):
        hyper[f"{h}_initial"] = low + before[:, i] * (high - low)
        hyper[f"{h}_final"] = np.where(ok, low + after[:, i] * (high - low), np.nan)
    if arm != "online":  # fixed hyperparameters end as they began, bit for bit, also where the run diverged
        hyper |= {f"{h}_final": hyper[f"{h}_initial"] for h in box}
    losses = {"t1_loss": t2 / 2, "t2_loss": t2, "t2_error": t2 / 5, "test_loss": test, "test_error": test / 5}
    return pd.DataFrame(
        {
            "run_id": "",
            "config_index": 0,
            "arm": arm,
            "replicate": 0,
            "model": model,
            "dataset": "synthetic",
            "status": np.where(ok, "completed", "diverged"),
            "seed": seeds,
            **hyper,
            **{k: np.where(ok, v, np.nan) for k, v in losses.items()},
            "steps": np.where(ok, steps, steps // 2),
            "train_time_s": seconds,
            "attempt": 1,
            "error": None,
        }
    )


def _trajectories(
    runs: pd.DataFrame, truth: Truth, box: dict[str, tuple[float, float]], points: int, record_every: int
) -> pd.DataFrame:
    """Exponential approach from the initial to the final value, one row for each recorded step of each run."""
    index = np.repeat(np.arange(len(runs)), points)
    step = np.tile(np.arange(1, points + 1), len(runs)) * record_every
    run = runs.iloc[index].reset_index(drop=True)
    frame = run[["run_id", "model", "arm", "config_index", "replicate"]].assign(step=step)
    left = np.exp(-5 * step / (points * record_every)) - np.exp(-5)  # 0 at the last step
    online = (run["arm"] == "online").to_numpy()
    for h in box:
        first, last = run[f"{h}_initial"].to_numpy(), run[f"{h}_final"].to_numpy()
        frame[h] = last + (first - last) * left
        frame[f"hypergradient_{h}"] = np.where(online, (last - first) * 0.01 * left, np.nan)
    progress = 2.0 * (1 - step / (points * record_every))
    frame["t1_loss"] = run["t1_loss"] + progress
    frame["t2_loss"] = run["t2_loss"] + progress
    return frame[run["status"].eq("completed") | (step <= points * record_every / 2)]


def _layered(frame: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """One column for each layer in place of the tied one; the layers scatter around the tied value by a constant."""
    layers = [c for c in columns if c != columns[c]]
    for k, column in enumerate(layers):
        shift = 0.01 * (k - (len(layers) - 1) / 2)
        h = columns[column]
        for name in [c for c in frame.columns if c in (h, f"{h}_initial", f"{h}_final", f"hypergradient_{h}")]:
            frame[name.replace(h, column)] = frame[name] + (0 if name.startswith("hyper") else shift)
    return frame


def _spec(
    name: str,
    seed: int,
    configurations: int,
    arms: Sequence[str],
    models: Sequence[str],
    box: dict[str, tuple[float, float]],
    layers: int,
    grid: tuple[int, ...],
    grid_replicates: int,
    estimator: str,
) -> dict[str, Any]:
    first = next(iter(box))
    hyper: dict[str, Any] = {
        h: {"low": low, "high": high, "learning_rate": 0.01, "scope": "layer" if layers and h == first else "tied"}
        for h, (low, high) in box.items()
    }
    return {
        "name": name,
        "seed": seed,
        "configurations": configurations,
        "replicates": 1,
        "arms": list(arms),
        "data": {"name": "synthetic"},
        "models": [{"name": "mlp", "hidden": [int(m.split("-")[1])]} for m in models],
        "hyperparameters": {**hyper, "label_smoothing": None, "custom": {}, "clamp": True},
        "inner": {"steps": 1000},
        "outer": {"estimator": estimator},
        "dtype": "float32",
        "grid": {"points": dict(zip(box, grid, strict=True)), "replicates": grid_replicates}
        if "grid" in arms
        else None,
    }
