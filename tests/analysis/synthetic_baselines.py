"""Synthetic searches with a known answer beside a synthetic study, as `t1t2 baselines` writes them.

The truth is that of :mod:`tests.analysis.synthetic`. Each search draws trials in a way that resembles its method: a
scheduler stops what is bad early, TPE draws nearer to the optimum, and the members of a population end near its best.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.analysis.study_files import schema
from tests.analysis.synthetic import BOX, Floats, Truth, _runs, _spec

STEPS, EVALUATION, STEP_S = (
    1000,
    5.0,
    0.01,
)  # inner steps; inner steps of one evaluation of T2; seconds of an inner step
TRAINING = STEPS + EVALUATION  # the unit of compute
ONLINE_COST = 1.3  # of an inner step of T1-T2, in fixed ones
ARMS = (
    *("random", "asha", "hyperband", "tpe", "tpe-asha", "pbt-4", "pbt-8", "pbt-16"),
    *("online", "rerun", "t1t2", "t1t2-rerun"),
)
DEFAULT = Truth()


def make_baselines(
    truth: Truth = DEFAULT,
    *,
    models: Sequence[str] = ("mlp-64",),
    arms: Sequence[str] = ARMS,
    repetitions: int = 20,
    trainings: float = 16.0,
    seed: int = 0,
) -> pd.DataFrame:
    """The runs of every search, in order."""
    searches = []
    for model in models:
        for repetition in range(repetitions):
            starts = np.random.default_rng((seed, repetition)).random((400, len(BOX)))  # common to all methods
            for k, arm in enumerate(arms):
                rng = np.random.default_rng((seed, repetition, k))
                search = _search(truth, model, arm, starts, trainings * TRAINING, rng)
                searches.append(search.assign(replicate=repetition))
    runs: pd.DataFrame = pd.concat(searches, ignore_index=True)
    return runs.assign(run_id=[f"{i:016x}" for i in range(len(runs))])


def write_baselines(study: Path, **options: Any) -> Path:
    """Write them into the directory ``baselines`` of the study directory ``study``, and return it."""
    directory = study / "baselines"
    directory.mkdir(parents=True)
    runs = make_baselines(**options)
    models = list(runs["model"].unique())
    more = [pa.field(name, pa.float64()) for name in ("compute", "spent", "spent_s")]
    known = pa.schema([*schema("runs", list(BOX)), *more])
    pq.write_table(pa.Table.from_pandas(runs, preserve_index=False, schema=known), directory / "runs.parquet")
    costs = {model: {"step_s": STEP_S, "online": ONLINE_COST, "evaluation": EVALUATION} for model in models}
    spec = _spec("synthetic", 0, 0, list(runs["arm"].unique()), models, BOX, 0, (), 0, "forward")
    info = {
        "schema_version": 1,
        "study_hash": "0" * 16,
        "spec": {**spec, "inner": {"steps": STEPS}, "record_every": 100},
        "provenance": {},
        "baselines": {"costs": costs, "trainings": options.get("trainings", 16.0)},
    }
    (directory / "study.json").write_text(json.dumps(info, indent=1))
    return directory


def _search(
    truth: Truth, model: str, arm: str, starts: Floats, budget: float, rng: np.random.Generator
) -> pd.DataFrame:
    """One search: its trials with what each has spent, as far as the budget goes."""
    before, after, costs, stopped = _trials(truth, model, arm, starts, rng)
    own = "online" if arm in ("online", "t1t2") else arm
    seeds = rng.integers(2**31, size=len(before))
    runs = _runs(
        truth, model, own, before, after, rng.normal(0, truth.shared_noise, len(before)), seeds, STEPS, BOX, rng
    )
    runs = runs.assign(arm=arm, config_index=np.arange(len(runs)), compute=costs)
    if arm in ("rerun", "t1t2-rerun"):  # each pays for the training before it too
        costs = costs + STEPS * ONLINE_COST + EVALUATION
    spent = np.cumsum(costs)
    runs = runs.assign(spent=spent, spent_s=spent * STEP_S * rng.lognormal(0, 0.02))
    runs.loc[stopped, ["test_loss", "test_error"]] = np.nan
    runs.loc[stopped, "status"] = "stopped"
    if arm.startswith("pbt"):
        return runs
    return runs[runs["spent"] <= budget * (1 + 1e-9)]


def _trials(
    truth: Truth, model: str, arm: str, starts: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, np.ndarray]:
    """Box positions [N, D] at the start and at the end, compute [N] of each trial, and which are stopped [N]."""
    optimum = np.array(truth.optimum[model])
    fixed = np.full(len(starts), TRAINING)
    nothing = np.zeros(len(starts), dtype=bool)
    if arm.startswith("pbt-"):
        size = int(arm.removeprefix("pbt-"))
        members = starts[:size]
        best = members[np.argmin(truth.loss(members, model))]
        ends = np.clip(best + rng.normal(0, 0.08, members.shape), 0, 1)
        return ends, ends, np.full(size, STEPS + 10 * EVALUATION), np.zeros(size, dtype=bool)
    if arm in ("online", "rerun", "t1t2", "t1t2-rerun"):
        spread = truth.end_spread * (1 if "t1t2" not in arm else 2)
        ends = np.clip(optimum + rng.normal(0, spread, starts.shape), 0, 1)
        if "rerun" in arm:
            return ends, ends, fixed, nothing
        return starts, ends, np.full(len(starts), STEPS * ONLINE_COST + EVALUATION), nothing
    if arm.startswith("tpe"):  # from the fifth trial on, half-way to the optimum, nearer each time
        pull = np.clip((np.arange(len(starts)) - 4) / 16, 0, 0.8)[:, None]
        starts = starts + pull * (optimum - starts)
    if arm in ("random", "tpe"):
        return starts, starts, fixed, nothing
    losses = truth.loss(starts, model)
    rank = pd.Series(losses).expanding().rank(pct=True).to_numpy()  # among those so far, as ASHA's rungs
    stopped = rank > (0.4 if arm == "hyperband" else 0.3)
    stopped[0] = False
    return starts, starts, np.where(stopped, 0.25 * STEPS + 3 * EVALUATION, STEPS + 10 * EVALUATION), stopped
