"""Pictures of a study: every function takes frames, draws into the given matplotlib ``Axes`` and returns them.

from analysis import find_region, load_study, plots
study = load_study("studies/quickstart")
region = find_region(study.runs, "mlp-64", study.boxes)
online = study.runs.query("arm == 'online' and model == 'mlp-64'")
with plots.paper_style():
    ax = plots.region_convergence(plt.figure().subplots(), online, study.trajectories, study.boxes, region)
"""

from analysis.plots.baselines import baseline_plot
from analysis.plots.cost import (
    comparison_cost,
    comparison_loss,
    comparison_region,
    contraction_plot,
    expected_best_plot,
    overhead_plot,
)
from analysis.plots.overlay import overlay_legend, runs_over_region
from analysis.plots.region import region_convergence, region_legend, region_outlines
from analysis.plots.split import bland_altman_plot, diagonal_scatter, split_curve_plot, split_scatter
from analysis.plots.steps import (
    concentration_curve,
    distance_over_steps,
    hyperparameter_trajectories,
    share_inside_over_steps,
)
from analysis.plots.style import paper_style, save_figure

# One name a line, as the formatter would have it, is half of this file.
# fmt: off
__all__ = [
    "baseline_plot", "bland_altman_plot", "comparison_cost", "comparison_loss", "comparison_region",
    "concentration_curve", "contraction_plot", "diagonal_scatter", "distance_over_steps", "expected_best_plot",
    "hyperparameter_trajectories", "overhead_plot", "overlay_legend", "paper_style", "region_convergence",
    "region_legend", "region_outlines", "runs_over_region", "save_figure", "share_inside_over_steps",
    "split_curve_plot", "split_scatter",
]
# fmt: on
