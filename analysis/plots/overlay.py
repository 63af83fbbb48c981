"""Pictures of another study's runs over the optimal region of this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.frames import Boxes
from analysis.plots import style
from analysis.plots.region import draw_surface, frame_box
from analysis.statistics.overlay import best_run, lie_inside
from analysis.statistics.region import Region

# How a run ended, the marker, its size in points², and whether it is filled. What ended otherwise is not drawn.
MARKS: tuple[tuple[str, str, float, bool], ...] = (
    ("completed", "o", 30.0, True),
    ("stopped", "o", 18.0, False),
    ("diverged", "x", 24.0, True),
)


def runs_over_region(ax: Axes, runs: pd.DataFrame, boxes: Boxes, region: Region, names: Sequence[str]) -> Axes:
    """Where the runs of another study lie over the surface of the fixed-hyperparameter loss.

    ``runs`` hold one row a run with ``{name}_final``, ``status`` and ``t2_loss``; ``names`` are the two axes, or one
    hyperparameter: then the second axis is the T2 loss. Blue: inside the region; vermillion: outside. Filled:
    completed; hollow: stopped before its end; a cross: diverged. The star is the completed run with the lowest T2 loss.
    """
    pair = list(names)[:2]
    if len(pair) == 2:
        draw_surface(ax, region, boxes, *pair)
    else:
        x = np.linspace(*boxes[pair[0]], 401)
        ax.plot(x, region.surface.predict(x[:, None]), color=style.INK, zorder=2)
        ax.axhline(region.threshold, color=style.GREY, linestyle="--", linewidth=1.0, zorder=1)
    columns = [f"{name}_final" for name in pair] + ["t2_loss"] * (len(pair) < 2)
    colours = np.where(lie_inside(runs, region), style.BLUE, style.VERMILLION)
    shrink = 1.0 if len(runs) <= 80 else max(0.3, (80.0 / len(runs)) ** 0.5)
    for status, marker, size, filled in MARKS:
        chosen = (runs["status"] == status).to_numpy()
        look: dict[str, Any] = {"marker": marker, "s": shrink * size, "zorder": 4}
        if marker == "x":
            look |= {"c": list(colours[chosen]), "linewidths": 1.0}
        elif filled:
            look |= {"c": list(colours[chosen]), "edgecolors": "white", "linewidths": 0.6}
        else:
            look |= {"facecolors": "white", "edgecolors": list(colours[chosen]), "linewidths": 1.2}
        ax.scatter(*(runs.loc[chosen, column] for column in columns), **look)
    best = best_run(runs)
    star: dict[str, Any] = {"marker": "*", "s": 150, "c": style.YELLOW, "edgecolors": style.INK, "linewidths": 0.8}
    ax.scatter(*(best[column] for column in columns), **star, zorder=5, clip_on=False)
    frame_box(ax, boxes[pair[0]], boxes[pair[1]] if len(pair) == 2 else None)
    ax.set(xlabel=style.hyperparameter_label(pair[0]))
    ax.set_ylabel(style.hyperparameter_label(pair[1]) if len(pair) == 2 else "T2 loss")
    return ax


def overlay_legend(axes: int = 2) -> list[Artist]:
    """The key of :func:`runs_over_region` over ``axes`` hyperparameters, for a legend of the whole figure."""

    def mark(label: str, marker: str, colour: str, **look: Any) -> Line2D:
        return Line2D([], [], linestyle="none", marker=marker, color=colour, label=label, markersize=6.5, **look)

    keys: list[Artist] = [
        mark("inside the region", "o", style.BLUE, markeredgecolor="white"),
        mark("outside", "o", style.VERMILLION, markeredgecolor="white"),
        mark("stopped early", "o", style.GREY, markerfacecolor="white"),
        mark("diverged", "x", style.GREY),
        Line2D(
            [], [], linestyle="none", marker="*", color=style.YELLOW, markeredgecolor=style.INK, markersize=11,
            label="lowest T2 loss",
        ),
    ]  # fmt: skip
    if axes > 1:
        return [*keys, Line2D([], [], color="black", linewidth=1.8, label="optimal region")]
    threshold = Line2D([], [], color=style.GREY, linestyle="--", linewidth=1.0, label="the region's threshold")
    return [*keys, Line2D([], [], color=style.INK, label="fixed hyperparameters"), threshold]
