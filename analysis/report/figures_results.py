"""The report's pictures of results and costs; each builder returns a figure and its caption, or why there is none."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from analysis.plots import cost as plots_cost
from analysis.plots import split as plots_split
from analysis.plots import style
from analysis.report.text import number
from analysis.report.view import Drawn, StudyView
from analysis.statistics.diagonal import bland_altman, compare_arms
from analysis.statistics.equal_compute import compute_curve
from analysis.statistics.frames import NotComputable, missing_arms, pairs
from analysis.statistics.improvement import SEED_SHARES, good_threshold, seed_holds, split, split_curve
from analysis.statistics.overhead import time_overhead, time_ratios
from analysis.statistics.surface import fit_surface


def models_with(view: StudyView, *arms: str) -> list[str] | NotComputable:
    """The models that have a completed run in every one of ``arms``."""
    models = [m for m in view.study.models if missing_arms(view.runs, *arms, model=m) is None]
    return (
        models
        or missing_arms(view.runs, *arms)
        or NotComputable(f"no model has completed runs in all of the arms {', '.join(arms)}")
    )


def split_pictures(view: StudyView) -> Drawn | NotComputable:
    """Retrained against initial T2 loss, split at the threshold of good."""
    models = models_with(view, "initial", "rerun")
    if isinstance(models, NotComputable):
        return models
    models = [m for m in models if m in view.found]
    if not models:
        return NotComputable("no threshold of good without a grid: it is taken from the best grid cell")
    figure, axes = style.panels(len(models), 4.4, 5.4)
    words = []
    for ax, model in zip(axes, models, strict=True):
        good = good_threshold(view.found[model])
        table = split(view.study.runs, model, good.value)
        if isinstance(table, NotComputable):
            return table
        plots_split.split_scatter(ax, pairs(view.study.runs, "initial", "rerun", model), good.value, table)
        ax.set_title(model, pad=48)
        words.append(f"{model}: {good.value:.4g} = {good.best:.4g} + {good.margin:.2g}.")
    return figure, (
        "Each configuration trained with its initial hyperparameters and again with those that T1-T2 "
        f"found. {good.definition[0].upper()}{good.definition[1:]}. Threshold of each model: "
        f"{' '.join(words)} Dotted: the diagonal. A run that diverged is bad and stands on the edge."
    )


def split_curves(view: StudyView) -> Drawn | NotComputable:
    """The split over the threshold, with the seed's 58 % and 20 %."""
    models = models_with(view, "initial", "rerun")
    if isinstance(models, NotComputable):
        return models
    figure, axes = style.panels(len(models), height=4.2)
    words = []
    for ax, model in zip(axes, models, strict=True):
        region = view.found.get(model)
        curve = split_curve(view.study.runs, model, None if region is None else region.best_value)
        if isinstance(curve, NotComputable):
            return curve
        holds = seed_holds(curve)
        margin = None if region is None else good_threshold(region).margin / region.best_value
        plots_split.split_curve_plot(ax, curve, margin, SEED_SHARES, holds)
        ax.set_title(model, pad=36)
        words.append(f"{model}: they fit together at {_where(holds)}.")
    return figure, (
        "The shares of configurations that are good before and after, for every threshold of good; bands: "
        "95 % Wilson intervals. The seed gives no threshold for its 58 % (good → good) and 20 % (bad → "
        f"good); where both lie in the intervals the background is yellow. {' '.join(words)}"
    )


def _where(holds: pd.DataFrame) -> str:
    if holds.empty:
        return "no threshold"
    column = holds["margin" if holds["margin"].notna().all() else "threshold"]
    if column.name == "margin" and len(column) == 1:
        return f"the threshold {100 * column.min():.0f} % above the best cell alone"
    if column.name == "margin":
        return f"thresholds from {100 * column.min():.0f} % to {100 * column.max():.0f} % above the best cell"
    return f"thresholds from {column.min():.3g} to {column.max():.3g}"


def diagonal_pictures(first: str, second: str) -> Callable[[StudyView], Drawn | NotComputable]:
    """A builder of the diagonal and the Bland-Altman picture of two arms by test loss, a row for each model."""

    def build(view: StudyView) -> Drawn | NotComputable:
        models = models_with(view, first, second)
        if isinstance(models, NotComputable):
            return models
        results = {}
        for model in models:
            surface = fit_surface(view.study.runs, model, view.study.boxes, "test_loss")
            margin = None if isinstance(surface, NotComputable) else surface.seed_noise
            result = compare_arms(view.study.runs, first, second, "test_loss", model, margin)
            if not isinstance(result, NotComputable):
                results[model] = result
        if not results:
            return result  # type: ignore[return-value]
        figure, axes = style.panels(2 * len(results), 4.6, 4.2)
        words = []
        for place, (model, result) in enumerate(results.items()):
            left, right = axes[2 * place : 2 * place + 2]
            left.set_title(model, pad=22)
            plots_split.diagonal_scatter(
                left, pairs(view.study.runs, first, second, model), first, second, margin=result.margin
            )
            differences = bland_altman(view.study.runs, first, second, "test_loss", model)
            plots_split.bland_altman_plot(right, differences, result, first=first, second=second)
            words.append(
                f"{model}: mean difference {number(result.mean_difference)} over {result.n} configurations, "
                f"{result.better} lower, {result.tied} within the margin, {result.worse} higher"
                + ("." if result.margin is None else f"; margin {result.margin:.2g}.")
            )
        return figure, (
            f"Left: the test loss of {second} over that of {first}, configuration by configuration. Right "
            f"(Bland-Altman): {second} minus {first} over their mean; blue, the mean difference with its "
            "95 % bootstrap interval; dashed, the mean ± 1.96 standard deviations. Grey: the margin, which "
            "is the seed noise (the standard deviation between seeds of one grid run's test loss). " + " ".join(words)
        )

    return build


def overhead_picture(view: StudyView) -> Drawn | NotComputable:
    """The paired time ratios of online over initial, by model."""
    table = time_overhead(view.study.runs)
    if isinstance(table, NotComputable):
        return table
    count = max(1, int((table["model"] != "all").sum()))
    figure, axes = style.panels(1, 7.2, 1.5 + 0.62 * count)
    plots_cost.overhead_plot(axes[0], time_ratios(view.study.runs), table)
    return figure, (
        "Training time of each T1-T2 run over that of the same configuration with fixed hyperparameters "
        "(dots); diamond: geometric mean of the paired ratios with its 95 % bootstrap interval. Dashed: "
        "the seed's 12 %. Times are those of the workers, which may have shared a machine; runs trained in "
        "one pack share its time equally, so their dots coincide."
    )


def compute_pictures(view: StudyView) -> Drawn | NotComputable:
    """The expected best test loss over compute, a panel for each model."""
    curves = {m: compute_curve(view.study.runs, m) for m in view.study.models}
    known = {m: c for m, c in curves.items() if not isinstance(c, NotComputable)}
    if not known:
        return next(iter(curves.values()), NotComputable("no run"))  # type: ignore[return-value]
    figure, axes = style.panels(len(known), height=3.9)
    for ax, (model, curve) in zip(axes, known.items(), strict=True):
        plots_cost.expected_best_plot(ax, curve)
        ax.set_title(model, pad=22)
    return figure, (
        "The expected test loss of the run that one would choose by its T2 loss, over the compute spent, "
        "in trainings with fixed hyperparameters: random search draws that many initial configurations, "
        "the others pay what their arms cost. Bands: 95 % bootstrap intervals."
    )
