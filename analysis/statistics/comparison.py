"""Several studies side by side, for example one for each hypergradient estimator on the same problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics.frames import NotComputable, one_arm
from analysis.statistics.intervals import Estimate, bootstrap
from analysis.statistics.overhead import time_overhead
from analysis.statistics.region import Region, RegionShares, find_region, region_shares
from analysis.study import Study

_PROBLEM = ("data", "inner", "hyperparameters")  # the parts of a spec that a region depends on, beside the model


def compare_studies(studies: Sequence[Study], *, seed: int = 0) -> pd.DataFrame:
    """One row for each study and model: region shares, losses, and cost in multiples of a fixed training.

    A study without a grid is judged by the region of the first study that has one for the same problem (data, inner
    training, boxes, model); ``reference`` names it. What cannot be computed is NaN, and ``reason`` says why.

    Columns: study, estimator, model, reference, n, diverged, volume, start_share, end_share, online_test_loss,
    rerun_test_loss, initial_test_loss, cost (of online over initial) — each of these five also with _low and _high —
    best_cell_test_loss, reason.
    """
    own = [{model: find_region(study.runs, model, study.boxes) for model in study.models} for study in studies]
    rows = []
    for study, regions in zip(studies, own, strict=True):
        for model in study.models:
            region, reference = regions[model], study.name
            if isinstance(region, NotComputable):
                for other, theirs in zip(studies, own, strict=True):
                    candidate = theirs.get(model)
                    if isinstance(candidate, Region) and _same_problem(study, other):
                        region, reference = candidate, other.name
                        break
            rows.append(_row(study, model, region, reference, seed))
    return pd.DataFrame(rows)


def _same_problem(first: Study, second: Study) -> bool:
    for part in _PROBLEM:
        a, b = first.spec.get(part), second.spec.get(part)
        if part == "hyperparameters":  # rates and sharing belong to the tuning, the boxes to the problem
            a, b = first.boxes, second.boxes
        if a != b:
            return False
    return True


def _row(study: Study, model: str, region: Region | NotComputable, reference: str, seed: int) -> dict[str, Any]:
    runs = study.runs[study.runs["model"] == model]
    online = one_arm(runs, model, "online")
    row: dict[str, Any] = {
        "study": study.name,
        "estimator": (study.spec.get("outer") or {}).get("estimator"),
        "model": model,
        "reference": None,
        "n": len(online),
        "diverged": int((online["status"] == "diverged").sum()),
        "volume": np.nan,
    }
    reasons = []
    shares = region_shares(runs, region, seed=seed) if isinstance(region, Region) else region
    if isinstance(region, Region):
        row |= {"reference": reference, "volume": region.volume, "best_cell_test_loss": _best_cell(study, region)}
    if isinstance(shares, RegionShares):
        row |= _columns("start_share", shares.start) | _columns("end_share", shares.end)
    else:
        reasons.append(shares.reason)
    for arm in ("online", "rerun", "initial"):
        losses = one_arm(runs, model, arm, completed=True)["test_loss"].to_numpy(dtype=float)
        row |= _columns(f"{arm}_test_loss", bootstrap(losses, np.mean, seed=seed))
    cost = time_overhead(runs, seed=seed)
    if isinstance(cost, NotComputable):
        reasons.append(cost.reason)
    else:
        row |= {"cost": cost["ratio"][0], "cost_low": cost["low"][0], "cost_high": cost["high"][0]}
    return row | {"reason": "; ".join(reasons) or None}


def _best_cell(study: Study, region: Region) -> float:
    """Mean test loss of the region's best cell, which was chosen on T2; NaN where this study has no grid of its own."""
    grid = study.runs[(study.runs["arm"] == "grid") & (study.runs["model"] == region.model)]
    cells = region.cells
    cell = cells.loc[(cells[list(region.best)] == pd.Series(region.best)).all(axis=1), "cell"].iloc[0]
    return float(grid.loc[grid["config_index"] == cell, "test_loss"].mean())


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
