"""Statistics and pictures of a study, from its Parquet files alone: neither Ray nor torch is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Public name -> its module. Lazy: a laptop that only loads a study imports neither scikit-learn nor matplotlib.
_PUBLIC = {
    "Study": "study",
    "StudyError": "study",
    "load_study": "study",
    "NotComputable": "statistics.frames",
    "boxes": "statistics.frames",
    "hyperparameters": "statistics.frames",
    "pairs": "statistics.frames",
    "tie_layers": "statistics.frames",
    "Estimate": "statistics.intervals",
    "bootstrap": "statistics.intervals",
    "wilson": "statistics.intervals",
    "Surface": "statistics.surface",
    "directions": "statistics.surface",
    "fit_surface": "statistics.surface",
    "grid_cells": "statistics.surface",
    "Region": "statistics.region",
    "RegionShares": "statistics.region",
    "RegionStability": "statistics.region",
    "concentration": "statistics.region",
    "find_region": "statistics.region",
    "region_points": "statistics.region",
    "region_shares": "statistics.region",
    "region_stability": "statistics.region",
    "stricter": "statistics.region",
    "clamped": "statistics.contraction",
    "contraction_ratios": "statistics.contraction",
    "distance_over_steps": "statistics.contraction",
    "BestCellComparison": "statistics.improvement",
    "GoodThreshold": "statistics.improvement",
    "SEED_SHARES": "statistics.improvement",
    "against_best_cell": "statistics.improvement",
    "good_threshold": "statistics.improvement",
    "seed_holds": "statistics.improvement",
    "split": "statistics.improvement",
    "split_curve": "statistics.improvement",
    "Diagonal": "statistics.diagonal",
    "bland_altman": "statistics.diagonal",
    "compare_arms": "statistics.diagonal",
    "time_overhead": "statistics.overhead",
    "time_ratios": "statistics.overhead",
    "at_equal_compute": "statistics.equal_compute",
    "compute_curve": "statistics.equal_compute",
    "expected_best": "statistics.equal_compute",
    "compare_models": "statistics.model_sizes",
    "compare_studies": "statistics.comparison",
    "summarise": "statistics.summary",
    "ReportPaths": "report.build",
    "write_report": "report.build",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(f"analysis.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
