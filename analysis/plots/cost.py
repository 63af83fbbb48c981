"""Pictures of the cost, of random search with the same compute, of contraction, and of several studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.frames import thinned
from analysis.plots import style

SLIDES_RATIO = 1.12  # the slides' "2 s (12 %)"


def overhead_plot(ax: Axes, ratios: pd.DataFrame, summary: pd.DataFrame) -> Axes:
    """Time of a T1-T2 run over that of the same training with fixed hyperparameters: every pair, and the mean by model.

    ``ratios``: model, ratio; ``summary``: model, ratio (geometric mean), low, high, n.
    """
    models = [m for m in summary["model"] if m != "all"] or list(summary["model"])
    for place, model in enumerate(models):
        row = summary[summary["model"] == model].iloc[0]
        _one_overhead(ax, place, thinned(ratios[ratios["model"] == model], 400), row)
    ax.axvline(1.0, color=style.INK, linewidth=0.8, zorder=1)
    ax.axvline(SLIDES_RATIO, color=style.VERMILLION, linewidth=1.0, linestyle="--", zorder=1)
    above: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (0, 3), "textcoords": "offset points"}
    words = f"slides: {SLIDES_RATIO:.2f}"
    ax.annotate(words, (SLIDES_RATIO, 1.0), color=style.VERMILLION, fontsize=8, ha="center", **above)
    ax.set_xlabel("training time, T1-T2 run / initial run")
    ax.xaxis.set_major_locator(MaxNLocator(7))
    return _rows(ax, models)


def _one_overhead(ax: Axes, place: int, ratios: pd.DataFrame, row: pd.Series[Any]) -> None:
    """The pairs of one model as dots at the height ``place``, and their mean with its interval."""
    spread = 0.3 * (np.modf(np.arange(len(ratios)) * 0.6180339887)[0] - 0.5)  # golden-ratio jitter: no random draw
    dots = ax.scatter(ratios["ratio"], place + spread, s=12, c=style.SKY, alpha=0.7, linewidths=0, zorder=2)
    dots.set_rasterized(len(ratios) > 200)
    if np.isfinite(row["low"]) and np.isfinite(row["high"]):
        ax.plot([row["low"], row["high"]], [place, place], color=style.INK, linewidth=2.2, zorder=3)
    ax.plot(row["ratio"], place, "D", color=style.BLUE, markeredgecolor="white", markersize=8, zorder=4)
    above: dict[str, Any] = {"xytext": (0, 12), "textcoords": "offset points", "ha": "center", "zorder": 5}
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    ax.annotate(f"{row['ratio']:.2f}", (row["ratio"], place), fontsize=8.5, fontweight="bold", bbox=box, **above)


def expected_best_plot(ax: Axes, curve: pd.DataFrame, metric: str = "test_loss") -> Axes:
    """The expected result of the run that one would choose on T2, over the compute spent, by method with intervals.

    ``curve``: method, trainings (compute in fixed-hyperparameter trainings), expected, low, high.
    """
    methods = curve.sort_values("trainings", kind="stable").groupby("method", sort=False)
    for (method, part), (colour, marker, dashes) in zip(methods, style.SERIES, strict=False):
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": dashes, "markersize": 4.5}
        ax.plot(part["trainings"], part["expected"], markeredgecolor="white", label=str(method), zorder=3, **look)
        ax.fill_between(part["trainings"], part["low"], part["high"], color=colour, alpha=0.15, linewidth=0, zorder=1)
    ax.set(
        xlabel="compute (trainings with fixed hyperparameters)",
        ylabel=f"{style.metric_label(metric)} of the run chosen on T2",
    )
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_locator(MaxNLocator(6))
    style.legend_above(ax, 3)
    return ax


def contraction_plot(ax: Axes, frame: pd.DataFrame) -> Axes:
    """The spread of the ends over the spread of the starts, with intervals, one line for each direction and model.

    ``frame``: label, std_ratio, std_ratio_low, std_ratio_high. Below 1 the runs came together, above 1 they spread.
    """
    for place, (_, row) in enumerate(frame.iterrows()):
        if np.isfinite(row["std_ratio_low"]) and np.isfinite(row["std_ratio_high"]):
            bounds = [row["std_ratio_low"], row["std_ratio_high"]]
            ax.plot(bounds, [place, place], color=style.INK, linewidth=1.6, zorder=2)
        ax.plot(row["std_ratio"], place, "o", color=style.BLUE, markeredgecolor="white", markersize=7, zorder=3)
    ax.axvline(1.0, color=style.INK, linewidth=0.8, linestyle="--", zorder=1)
    ax.set_xlabel("standard deviation of the ends / of the starts")
    ax.set_xlim(left=0)
    return _rows(ax, list(frame["label"]))


def comparison_region(ax: Axes, rows: pd.DataFrame) -> Axes:
    """Share of the runs that start (hollow) and end (filled) in the region, and the region's share of the box (bar).

    ``rows``: label, start_share, end_share (+ ``_low``, ``_high``), volume.
    """
    for place, (_, row) in enumerate(rows.iterrows()):
        label = "region's share of the box" if place == 0 else None
        ax.barh(place, row["volume"], height=0.5, color=style.FAINT, zorder=0, label=label)
        for stem, fill, shift, words in (
            ("start_share", "white", -0.14, "starts"),
            ("end_share", style.BLUE, 0.14, "ends"),
        ):
            bounds = [row[f"{stem}_low"], row[f"{stem}_high"]]
            ax.plot(bounds, [place + shift] * 2, color=style.BLUE, linewidth=1.3, zorder=2)
            look: dict[str, Any] = {"color": style.BLUE, "markerfacecolor": fill, "markersize": 6.5}
            label = f"{words} inside" if place == 0 else None
            ax.plot(row[stem], place + shift, "o", zorder=3, label=label, linestyle="none", **look)
    ax.set(xlim=(0, 1.02), xlabel="share inside the optimal region")
    ax.xaxis.set_major_formatter(style.percent)
    return _rows(ax, list(rows["label"]))


def comparison_loss(ax: Axes, rows: pd.DataFrame) -> Axes:
    """Mean test loss of the T1-T2 runs and of their reruns; the best fixed cell's as a tick."""
    for column, colour, marker, words, shift in (
        ("online_test_loss", style.BLUE, "o", "T1-T2", -0.14),
        ("rerun_test_loss", style.GREEN, "^", "rerun", 0.14),
        ("best_cell_test_loss", style.INK, "|", "best grid cell", 0.0),
    ):
        if column in rows and rows[column].notna().any():
            place = np.arange(len(rows)) + shift
            size, edge, width = (14, colour, 2.0) if marker == "|" else (7, "white", 0.7)
            look: dict[str, Any] = {"markersize": size, "markeredgecolor": edge, "markeredgewidth": width}
            ax.plot(rows[column], place, marker, color=colour, linestyle="none", zorder=3, label=words, **look)
            if f"{column}_low" in rows:
                ax.hlines(place, rows[f"{column}_low"], rows[f"{column}_high"], color=colour, linewidth=1.3)
    ax.set_xlabel("mean test loss")
    ax.xaxis.set_major_locator(MaxNLocator(4))
    return _rows(ax, list(rows["label"]))


def comparison_cost(ax: Axes, rows: pd.DataFrame) -> Axes:
    """Time of a T1-T2 run in multiples of a training with fixed hyperparameters, with intervals."""
    place = np.arange(len(rows))
    ax.hlines(place, rows["cost_low"], rows["cost_high"], color=style.INK, linewidth=1.6, zorder=2)
    ax.plot(rows["cost"], place, "D", color=style.BLUE, markeredgecolor="white", markersize=7, zorder=3)
    ax.axvline(1.0, color=style.INK, linewidth=0.8, linestyle="--", zorder=1)
    ax.set_xlabel("time / fixed training")
    ax.set_xlim(left=0)
    return _rows(ax, list(rows["label"]))


def _rows(ax: Axes, labels: Sequence[str]) -> Axes:
    """One row for each of ``labels``, the first at the top; the legend, if any, above."""
    ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.4, -0.6))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        style.legend_above(ax, 1)
    return ax
