"""Statistics and pictures of a study, from its Parquet files alone: neither Ray nor torch is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Public name -> its module. Lazy: a laptop that only loads a study imports neither scikit-learn nor matplotlib.
_PUBLIC = {
    "Study": "load", "StudyError": "load", "load_study": "load",
    "NotComputable": "frames", "boxes": "frames", "hyperparameters": "frames", "pairs": "frames",
    "tie_layers": "frames",
    "Estimate": "intervals", "bootstrap": "intervals", "wilson": "intervals",
    "Surface": "surface", "directions": "surface", "fit_surface": "surface", "grid_cells": "surface",
    "Region": "region", "RegionShares": "region", "RegionStability": "region",
    "concentration": "region", "find_region": "region",
    "region_points": "region", "region_shares": "region", "region_stability": "region",
    "stricter": "region",
    "clamped": "contraction", "contraction_ratios": "contraction", "distance_over_steps": "contraction",
    "BestCellComparison": "improvement", "GoodThreshold": "improvement", "SEED_SHARES": "improvement",
    "against_best_cell": "improvement", "good_threshold": "improvement", "seed_holds": "improvement",
    "split": "improvement", "split_curve": "improvement",
    "Diagonal": "diagonal", "bland_altman": "diagonal", "compare_arms": "diagonal",
    "time_overhead": "overhead", "time_ratios": "overhead",
    "at_equal_compute": "equal_compute", "compute_curve": "equal_compute",
    "expected_best": "equal_compute",
    "compare_models": "model_sizes",
    "compare_studies": "comparison",
    "summarise": "summary",
    "ReportPaths": "report", "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(f"analysis.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
