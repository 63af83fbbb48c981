"""Every statistic of a study as one JSON-able dictionary: what ``summary.json`` holds and the report prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics.contraction import clamped, contraction_ratios, distance_over_steps
from analysis.statistics.diagonal import compare_arms
from analysis.statistics.equal_compute import at_equal_compute, compute_curve
from analysis.statistics.frames import NotComputable
from analysis.statistics.improvement import (
    RELATIVE_MARGIN,
    SEED_SHARES,
    against_best_cell,
    good_threshold,
    seed_holds,
    split,
)
from analysis.statistics.improvement import split_curve as split_over_thresholds
from analysis.statistics.model_sizes import compare_models
from analysis.statistics.overhead import time_overhead
from analysis.statistics.region import (
    DEFINITION,
    LARGEST_SHARE,
    Region,
    find_region,
    region_shares,
    region_stability,
    stricter,
)
from analysis.study import Study

SUMMARY_VERSION = 1
METRICS = ("t2_loss", "test_loss", "test_error", "t2_error")  # the first decides, the others are reported beside it
_DIGITS = 6  # significant: below that, the linear algebra of another machine differs


def summarise(study: Study, *, seed: int = 0) -> dict[str, Any]:
    """All statistics of ``study``; the same study and ``seed`` give the same dictionary.

    Keys: version, study (name, hash, seed, dataset), definitions, counts (records by model, arm and status), models
    (for each: region by metric, contraction, clamped, distance, improvement, best_cell, diagonal, equal_compute),
    overhead, model_sizes. A part that the study does not allow is ``{"not_computable": why}``; an estimate is ``{value,
    low, high, n}`` with its 95 % interval; a table is a list of records; NaN and infinity are None. Numbers have six
    significant digits.
    """
    runs = study.runs
    regions = {
        model: {metric: find_region(runs, model, study.boxes, metric) for metric in METRICS} for model in study.models
    }
    deciding = [r[METRICS[0]] for r in regions.values()]
    result = {
        "version": SUMMARY_VERSION,
        "study": {
            "name": study.name,
            "hash": study.study_hash,
            "seed": study.spec.get("seed"),
            "dataset": sorted(map(str, runs["dataset"].unique())) if "dataset" in runs else None,
            "boxes": {h: list(b) for h, b in study.boxes.items()},
        },
        "definitions": _definitions(),
        "counts": runs.groupby(["model", "arm", "status"], sort=True).size().reset_index(name="runs"),
        "models": {model: _model(study, model, found, seed) for model, found in regions.items()},
        "overhead": time_overhead(runs, seed=seed),
        "model_sizes": compare_models(runs, [r for r in deciding if isinstance(r, Region)], seed=seed),
    }
    plain: dict[str, Any] = to_plain(result)
    return plain


def _definitions() -> dict[str, str]:
    return {
        "region": DEFINITION,
        "region_metric": "Verdicts use the region of the T2 loss; regions of test metrics are reported beside it and "
        "nothing is chosen by them.",
        "discriminates": f"A region larger than {LARGEST_SHARE:.0%} of the box does not discriminate.",
        "good": f"A run is good when its T2 loss is at most the best grid cell's smoothed mean plus the larger of "
        f"{RELATIVE_MARGIN:.0%} of it and twice the seed noise.",
        "equivalence": "Two arms are equivalent when two one-sided tests reject, at 5 %, that their mean paired "
        "difference is as large as the seed noise (the standard deviation between seeds of one run).",
        "compute": "Compute is measured training time over that of a training with fixed hyperparameters.",
        "intervals": "95 %: Wilson for shares, the bootstrap over configurations for the rest.",
    }


def _model(study: Study, model: str, regions: Mapping[str, Region | NotComputable], seed: int) -> dict[str, Any]:
    runs, region = study.runs, regions[METRICS[0]]
    found = region if isinstance(region, Region) else None
    return {
        "region": {metric: _region(runs, r, seed) for metric, r in regions.items()},
        "region_from_surface_minimum": _region(runs, stricter(found) if found else region, seed),
        "region_stability": region_stability(runs, region, seed=seed) if isinstance(region, Region) else region,
        "contraction": contraction_ratios(runs, model, study.boxes, found.surface if found else None, seed=seed),
        "clamped": clamped(runs, model, study.boxes, found),
        "distance": distance_over_steps(study, region) if isinstance(region, Region) else region,
        "improvement": {after: _improvement(runs, model, region, after) for after in ("rerun", "online")},
        "best_cell": {
            arm: against_best_cell(runs, region, arm=arm, seed=seed) if isinstance(region, Region) else region
            for arm in ("online", "rerun", "initial")
        },
        "diagonal": {
            f"{a}_{b}": {metric: _diagonal(runs, model, a, b, metric, regions, seed) for metric in METRICS}
            for a, b in (("online", "rerun"), ("initial", "rerun"), ("initial", "online"))
        },
        "equal_compute": {
            "at_equal_compute": at_equal_compute(runs, model, seed=seed),
            "curve": compute_curve(runs, model, seed=seed),
        },
    }


def _region(runs: pd.DataFrame, region: Region | NotComputable, seed: int) -> Any:
    if isinstance(region, NotComputable):
        return region
    return {
        "best_cell": region.best,
        "optimum": region.optimum,
        "best_value": region.best_value,
        "standard_error": region.standard_error,
        "seed_noise": region.seed_noise,
        "margin": region.margin,
        "threshold": region.threshold,
        "volume": region.volume,
        "discriminates": region.discriminates,
        "cells": len(region.cells),
        "cells_inside": int(region.cells["inside"].sum()),
        "cells_inside_by_mean": int(region.cells["mean_inside"].sum()),
        "noise_from": region.surface.noise_from,
        "shares": region_shares(runs, region, seed=seed),
    }


def _improvement(runs: pd.DataFrame, model: str, region: Region | NotComputable, after: str) -> Any:
    if isinstance(region, NotComputable):
        return NotComputable(f"no threshold of good: {region.reason}")
    threshold = good_threshold(region)
    curve = split_over_thresholds(runs, model, threshold.best, after=after)
    holds = curve if isinstance(curve, NotComputable) else seed_holds(curve)
    margins = (
        holds
        if isinstance(holds, NotComputable)
        else ([float(holds["margin"].min()), float(holds["margin"].max())] if len(holds) else None)
    )
    return {
        "threshold": threshold,
        "split": split(runs, model, threshold.value, after=after),
        "seed_shares": SEED_SHARES,
        "margins_at_which_the_seeds_shares_hold": margins,
    }


def _diagonal(
    runs: pd.DataFrame,
    model: str,
    first: str,
    second: str,
    metric: str,
    regions: Mapping[str, Region | NotComputable],
    seed: int,
) -> Any:
    region = regions[metric]
    margin = region.seed_noise if isinstance(region, Region) else None
    return compare_arms(runs, first, second, metric, model, margin, seed=seed)


def to_plain(value: Any) -> Any:
    """``value`` in the types of JSON: frames as records, dataclasses as objects, NaN as None, six digits."""
    if isinstance(value, NotComputable):
        return {"not_computable": value.reason}
    if isinstance(value, pd.DataFrame):
        return [to_plain(record) for record in value.to_dict("records")]
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None
    return value if value is None or isinstance(value, str) else str(value)
