"""Which pictures a report shows: the builders of one study's, and the comparison of several studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.plots import cost as plots_cost
from analysis.plots import style
from analysis.report import figures_region as region
from analysis.report import figures_results as results
from analysis.report.view import Drawn, StudyView
from analysis.statistics.frames import NotComputable


@dataclass(frozen=True)
class Picture:
    """One picture of the report, or, where ``png`` is None, why it could not be made (``text``)."""

    section: str
    title: str
    text: str  # caption, or the reason
    png: Path | None = None
    svg: Path | None = None


def study_pictures(view: StudyView, folder: Path, prefix: str = "") -> list[Picture]:
    """Draw every picture of a study into ``folder`` as PNG and SVG; those that cannot be drawn say why."""
    pictures = []
    for section, stem, title, builder in BUILDERS:
        with style.paper_style():
            drawn = builder(view)
        if isinstance(drawn, NotComputable):
            pictures.append(Picture(section, title, drawn.reason))
            continue
        png, svg = style.save_figure(drawn[0], folder / f"{prefix}{stem}")
        pictures.append(Picture(section, title, drawn[1], png, svg))
    return pictures


def comparison_picture(rows: pd.DataFrame, folder: Path) -> Picture:
    """Several studies side by side: shares in the region, test loss and cost; rows of ``compare_studies``."""
    several = len(set(rows["model"])) > 1
    labels = [f"{r['study']} · {r['model']}" if several else r["study"] for _, r in rows.iterrows()]
    with style.paper_style():
        figure, axes = style.panels(3, 3.9, 1.9 + 0.42 * len(rows), columns=3)
        labelled = rows.assign(label=labels)
        for ax, draw in zip(
            axes, (plots_cost.comparison_region, plots_cost.comparison_loss, plots_cost.comparison_cost), strict=True
        ):
            draw(ax, labelled)
        for ax in axes[1:]:
            ax.set_yticklabels([])
    caption = (
        "Left: the share of the T1-T2 runs that start (hollow) and end (filled) in the optimal region with 95 % "
        "Wilson intervals, and the region's share of the box (bar). Middle: mean test loss with 95 % bootstrap "
        "intervals. Right: time of a T1-T2 run over that of a training with fixed hyperparameters."
    )
    png, svg = style.save_figure(figure, folder / "comparison")
    return Picture("comparison", "Studies side by side", caption, png, svg)


BUILDERS: tuple[tuple[str, str, str, Callable[[StudyView], Drawn | NotComputable]], ...] = (
    ("region", "region_convergence", "Region convergence", region.region_convergence),
    ("region", "ends", "Into the region", region.ends),
    ("region", "hyperparameters", "Hyperparameters over the steps", region.hyperparameters_over_steps),
    ("region", "contraction", "Contraction", region.contraction),
    ("improvement", "split", "Improvement split", results.split_pictures),
    ("improvement", "split_curve", "The split over the threshold", results.split_curves),
    ("diagonal", "diagonal", "T1-T2 run against retraining", results.diagonal_pictures("online", "rerun")),
    (
        "diagonal",
        "diagonal_initial",
        "Initial hyperparameters against retraining",
        results.diagonal_pictures("initial", "rerun"),
    ),
    ("cost", "overhead", "Time overhead", results.overhead_picture),
    ("cost", "equal_compute", "Expected best over compute", results.compute_pictures),
    ("models", "model_regions", "Regions by model", region.model_regions),
)
