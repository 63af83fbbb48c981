"""Statistics and pictures of a study, from its Parquet files alone: neither Ray nor torch is needed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

# Module -> its public names. A laptop that only loads a study imports neither scikit-learn nor matplotlib.
_PUBLIC = {
    "files": "StudyError",
    "study": "Study load_study",
    "frames": "NotComputable boxes hyperparameters pairs tie_layers",
    "statistics.intervals": "Estimate bootstrap wilson",
    "statistics.surface": "Surface directions fit_surface grid_cells",
    "statistics.region": "Region find_region stricter",
    "statistics.region_shares": "RegionShares RegionStability concentration region_points region_shares "
    "region_stability",
    "statistics.overlay": "Overlay overlays",
    "statistics.contraction": "clamped contraction_ratios distance_over_steps",
    "statistics.improvement": "BestCellComparison GoodThreshold SLIDES_SHARES against_best_cell good_threshold "
    "slides_hold split split_curve",
    "statistics.diagonal": "Diagonal bland_altman compare_arms",
    "statistics.overhead": "time_overhead time_ratios",
    "statistics.equal_compute": "at_equal_compute compute_curve expected_best",
    "statistics.baselines": "baseline_curve baseline_standings training_cost",
    "statistics.model_sizes": "compare_models",
    "statistics.comparison": "compare_studies",
    "statistics.summary": "ModelSummary Summary summarise",
    "exports.export": "Exported export_study",
    "report.main_figures": "main_figures",
    "report.build": "ReportPaths write_report",
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names.split()}

# One name a line, as the formatter would have it, is half of this file.
# fmt: off
__all__ = [
    "SLIDES_SHARES", "BestCellComparison", "Diagonal", "Estimate", "Exported", "GoodThreshold", "ModelSummary",
    "NotComputable", "Overlay", "Region", "RegionShares", "RegionStability", "ReportPaths", "Study", "StudyError",
    "Summary", "Surface", "against_best_cell", "at_equal_compute", "baseline_curve", "baseline_standings",
    "bland_altman", "bootstrap", "boxes", "clamped", "compare_arms", "compare_models", "compare_studies",
    "compute_curve", "concentration", "contraction_ratios", "directions", "distance_over_steps", "expected_best",
    "export_study", "find_region", "fit_surface", "good_threshold", "grid_cells", "hyperparameters", "load_study",
    "main_figures", "overlays", "pairs", "region_points", "region_shares", "region_stability", "slides_hold", "split",
    "split_curve", "stricter", "summarise", "tie_layers", "time_overhead", "time_ratios", "training_cost", "wilson",
    "write_report",
]
# fmt: on

if TYPE_CHECKING:  # the same for type checkers, which then know every name and refuse all others
    from analysis.exports.export import Exported, export_study
    from analysis.files import StudyError
    from analysis.frames import NotComputable, boxes, hyperparameters, pairs, tie_layers
    from analysis.report.build import ReportPaths, write_report
    from analysis.report.main_figures import main_figures
    from analysis.statistics.baselines import baseline_curve, baseline_standings, training_cost
    from analysis.statistics.comparison import compare_studies
    from analysis.statistics.contraction import clamped, contraction_ratios, distance_over_steps
    from analysis.statistics.diagonal import Diagonal, bland_altman, compare_arms
    from analysis.statistics.equal_compute import at_equal_compute, compute_curve, expected_best
    from analysis.statistics.improvement import (
        SLIDES_SHARES,
        BestCellComparison,
        GoodThreshold,
        against_best_cell,
        good_threshold,
        slides_hold,
        split,
        split_curve,
    )
    from analysis.statistics.intervals import Estimate, bootstrap, wilson
    from analysis.statistics.model_sizes import compare_models
    from analysis.statistics.overhead import time_overhead, time_ratios
    from analysis.statistics.overlay import Overlay, overlays
    from analysis.statistics.region import Region, find_region, stricter
    from analysis.statistics.region_shares import (
        RegionShares,
        RegionStability,
        concentration,
        region_points,
        region_shares,
        region_stability,
    )
    from analysis.statistics.summary import ModelSummary, Summary, summarise
    from analysis.statistics.surface import Surface, directions, fit_surface, grid_cells
    from analysis.study import Study, load_study
else:

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'analysis' has no attribute {name!r}")
        return getattr(import_module(f"analysis.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULE_OF)
