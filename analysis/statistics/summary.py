"""Every statistic of a study, computed once: what ``summary.json``, the report and the command line show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import pandas as pd

from analysis.frames import NotComputable
from analysis.statistics.baselines import BaselineSummary, summarise_baselines
from analysis.statistics.contraction import Clamp, Contraction, clamps, contractions, distance_over_steps
from analysis.statistics.diagonal import Diagonal, compare_arms
from analysis.statistics.equal_compute import EqualCompute, compute_curve, equal_compute
from analysis.statistics.improvement import (
    RELATIVE_MARGIN,
    SLIDES_SHARES,
    BestCellComparison,
    GoodThreshold,
    SplitShare,
    against_best_cell,
    good_threshold,
    slides_hold,
    split_curve,
    split_shares,
)
from analysis.statistics.model_sizes import ModelPair, model_pairs
from analysis.statistics.overhead import Overhead, overheads
from analysis.statistics.records import Row, to_plain
from analysis.statistics.region import DEFINITION, LARGEST_SHARE, Region, find_region, stricter
from analysis.statistics.region_shares import RegionShares, RegionStability, region_shares, region_stability
from analysis.study import Study

SUMMARY_VERSION = 1
Metric = Literal["t2_loss", "test_loss", "test_error", "t2_error"]
METRICS: tuple[Metric, ...] = ("t2_loss", "test_loss", "test_error", "t2_error")
DECISIVE: Metric = "t2_loss"  # verdicts use the region by this metric, the others are reported beside it
Arm = Literal["online", "rerun", "initial"]
ARMS: tuple[Arm, ...] = ("online", "rerun", "initial")
After = Literal["rerun", "online"]  # the arm that the initial runs are set against
AFTER: tuple[After, ...] = ("rerun", "online")
Pair = Literal["online_rerun", "initial_rerun", "initial_online"]
PAIRS: dict[Pair, tuple[Arm, Arm]] = {
    "online_rerun": ("online", "rerun"),
    "initial_rerun": ("initial", "rerun"),
    "initial_online": ("initial", "online"),
}


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """The definitions that the numbers need. They are the same for every study."""

    region: str = DEFINITION
    region_metric: str = (
        "Verdicts use the region of the T2 loss; regions of test metrics are reported beside it and nothing is chosen "
        "by them."
    )
    discriminates: str = f"A region larger than {LARGEST_SHARE:.0%} of the box does not discriminate."
    good: str = (
        f"A run is good when its T2 loss is at most the best grid cell's smoothed mean plus the larger of "
        f"{RELATIVE_MARGIN:.0%} of it and twice the seed noise."
    )
    equivalence: str = (
        "Two arms are equivalent when two one-sided tests reject, at 5 %, that their mean paired difference is as "
        "large as the seed noise (the standard deviation between seeds of one run)."
    )
    compute: str = "Compute is measured training time over that of a training with fixed hyperparameters."
    intervals: str = "95 %: Wilson for shares, the bootstrap over configurations for the rest."


DEFINITIONS = Definitions()


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """Which study it is."""

    name: str
    hash: str | None
    seed: int | None
    dataset: list[str] | None
    boxes: dict[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Count(Row):
    """How many runs of a model in an arm have a status."""

    model: str
    arm: str
    status: str
    runs: int


@dataclass(frozen=True, kw_only=True)
class RegionSummary:
    """A region, and how many runs start and end in it."""

    region: Region
    shares: RegionShares | NotComputable

    def published(self) -> dict[str, Any]:
        """Key -> value in ``summary.json``."""
        region = self.region
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
            "shares": self.shares,
        }


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """The split at the threshold of good, and between which margins it agrees with the slides.

    The margins are the lowest and the highest at which both of the slides' shares lie in the intervals; None: nowhere.
    """

    threshold: GoodThreshold
    split: tuple[SplitShare, ...] | NotComputable
    slides_shares: Mapping[str, float] = field(default_factory=lambda: SLIDES_SHARES)
    margins_at_which_the_slides_shares_hold: (
        tuple[float, float] | NotComputable | None
    )  # lowest, highest; None: nowhere


@dataclass(frozen=True, kw_only=True)
class ComputeSummary:
    """T1-T2 against random search: at the compute of one start, and over all computes."""

    at_equal_compute: tuple[EqualCompute, ...] | NotComputable
    curve: pd.DataFrame | NotComputable  # of :func:`compute_curve`


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """Every statistic of one model."""

    region: Mapping[Metric, RegionSummary | NotComputable]
    region_from_surface_minimum: RegionSummary | NotComputable
    region_stability: RegionStability | NotComputable
    contraction: tuple[Contraction, ...] | NotComputable
    clamped: tuple[Clamp, ...] | NotComputable
    distance: pd.DataFrame | NotComputable  # of :func:`distance_over_steps`
    improvement: Mapping[After, Improvement | NotComputable]
    best_cell: Mapping[Arm, BestCellComparison | NotComputable]
    diagonal: Mapping[Pair, Mapping[Metric, Diagonal | NotComputable]]
    equal_compute: ComputeSummary
    split_curves: Mapping[After, pd.DataFrame | NotComputable]  # of :func:`split_curve`; drawn, and not published

    @property
    def decisive(self) -> Region | NotComputable:
        """The region that verdicts use."""
        found = self.region[DECISIVE]
        return found.region if isinstance(found, RegionSummary) else found

    def published(self) -> dict[str, Any]:
        """Key -> value in ``summary.json``."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "split_curves"}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Every statistic of one study. A part that the study does not allow is :class:`NotComputable`."""

    version: int = SUMMARY_VERSION
    study: StudyFacts
    definitions: Definitions = DEFINITIONS
    counts: tuple[Count, ...]
    models: Mapping[str, ModelSummary]
    overhead: tuple[Overhead, ...] | NotComputable
    model_sizes: tuple[ModelPair, ...] | NotComputable
    baselines: Mapping[str, BaselineSummary | NotComputable] | None = None  # by model; None: none were run

    def overhead_of(self, model: str) -> Overhead | NotComputable:
        """The time ratio of one model."""
        if isinstance(self.overhead, NotComputable):
            return self.overhead
        of_model = (row for row in self.overhead if row.model == model)
        return next(of_model, NotComputable(f"model {model} has no pair of completed runs with measured times"))

    def published(self) -> dict[str, Any]:
        """Key -> value in ``summary.json``: ``baselines`` only where some were run."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def to_dict(self) -> dict[str, Any]:
        """The summary in the types of JSON: what ``summary.json`` holds of a study.

        Keys are the names of the fields. A part that the study does not allow is ``{"not_computable": why}``; an
        estimate is ``{value, low, high, n}`` with its 95 % interval, or, in a row of a table, three columns; a table is
        a list of rows; NaN and infinity are None. Numbers have six significant digits.
        """
        plain: dict[str, Any] = to_plain(self)
        return plain


def summarise(study: Study, *, seed: int = 0) -> Summary:
    """All statistics of ``study``; the same study and ``seed`` give the same summary."""
    runs = study.runs
    models = {model: _model(study, model, seed) for model in study.models}
    regions = [m.decisive for m in models.values() if isinstance(m.decisive, Region)]
    return Summary(
        study=StudyFacts(
            name=study.name,
            hash=study.study_hash,
            seed=study.spec.get("seed"),
            dataset=sorted(map(str, runs["dataset"].unique())) if "dataset" in runs else None,
            boxes=study.boxes,
        ),
        counts=_counts(runs),
        models=models,
        overhead=overheads(runs, seed=seed),
        model_sizes=model_pairs(runs, regions, seed=seed),
        baselines=None if study.baselines is None else summarise_baselines(study.baselines, models, seed=seed),
    )


def _counts(runs: pd.DataFrame) -> tuple[Count, ...]:
    counted = runs.groupby(["model", "arm", "status"], sort=True).size().reset_index(name="runs")
    rows = counted.itertuples(index=False, name=None)
    return tuple(Count(model=model, arm=arm, status=status, runs=n) for model, arm, status, n in rows)


def _model(study: Study, model: str, seed: int) -> ModelSummary:
    runs = study.runs
    regions = {metric: find_region(runs, model, study.boxes, metric) for metric in METRICS}
    region = regions[DECISIVE]
    found = region if isinstance(region, Region) else None
    noise = {metric: r.seed_noise if isinstance(r, Region) else None for metric, r in regions.items()}
    curves = {
        after: split_curve(runs, model, None if found is None else found.best_value, after=after) for after in AFTER
    }
    return ModelSummary(
        region={metric: _region(runs, r, seed) for metric, r in regions.items()},
        region_from_surface_minimum=_region(runs, stricter(found) if found else region, seed),
        region_stability=region_stability(runs, region, seed=seed) if isinstance(region, Region) else region,
        contraction=contractions(runs, model, study.boxes, found.surface if found else None, seed=seed),
        clamped=clamps(runs, model, study.boxes, found),
        distance=distance_over_steps(study, region) if isinstance(region, Region) else region,
        improvement={after: _improvement(runs, model, region, after, curves[after]) for after in AFTER},
        best_cell={
            arm: against_best_cell(runs, region, arm=arm, seed=seed) if isinstance(region, Region) else region
            for arm in ARMS
        },
        diagonal={
            pair: {
                metric: compare_arms(runs, first, second, metric=metric, model=model, margin=noise[metric], seed=seed)
                for metric in METRICS
            }
            for pair, (first, second) in PAIRS.items()
        },
        equal_compute=ComputeSummary(
            at_equal_compute=equal_compute(runs, model, seed=seed), curve=compute_curve(runs, model, seed=seed)
        ),
        split_curves=curves,
    )


def _region(runs: pd.DataFrame, region: Region | NotComputable, seed: int) -> RegionSummary | NotComputable:
    if isinstance(region, NotComputable):
        return region
    return RegionSummary(region=region, shares=region_shares(runs, region, seed=seed))


def _improvement(
    runs: pd.DataFrame, model: str, region: Region | NotComputable, after: After, curve: pd.DataFrame | NotComputable
) -> Improvement | NotComputable:
    if isinstance(region, NotComputable):
        return NotComputable(f"no threshold of good: {region.reason}")
    threshold = good_threshold(region)
    margins: tuple[float, float] | NotComputable | None = None
    if isinstance(curve, NotComputable):
        margins = curve
    elif len(holds := slides_hold(curve)["margin"]):
        margins = float(holds.min()), float(holds.max())
    return Improvement(
        threshold=threshold,
        split=split_shares(runs, model, threshold.value, after=after),
        margins_at_which_the_slides_shares_hold=margins,
    )
