"""Pictures over the training steps: the hyperparameters' trajectories and the distance to the optimal region."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from analysis.plots import style


def hyperparameter_trajectories(
    ax: Axes,
    trajectories: pd.DataFrame,
    online: pd.DataFrame,
    name: str,
    box: tuple[float, float],
    region: tuple[float, float] | None = None,
) -> Axes:
    """The hyperparameter ``name`` of every run over the steps, coloured by where it started.

    ``trajectories``: run_id, step, ``name``; ``online``: run_id and ``{name}_initial``, drawn at step 0. ``region`` is
    the region's extent along this hyperparameter (a band), the box's edges are the clamps (dashed).
    """
    starts = online.set_index("run_id")[f"{name}_initial"]
    paths, colours = [], []
    walked = trajectories[trajectories["run_id"].isin(starts.index)]
    for run_id, path in walked.groupby("run_id", sort=False):
        begin = float(starts[run_id])
        paths.append(np.column_stack([np.r_[0, path["step"]], np.r_[begin, path[name]]]))
        colours.append(begin)
    scale = Normalize(*box)
    look: dict[str, Any] = {"cmap": style.STARTS, "norm": scale, "linewidths": 0.9, "zorder": 3}
    opacity = min(0.9, max(0.25, 40 / max(len(paths), 1)))
    ax.add_collection(LineCollection(paths, array=np.asarray(colours), alpha=opacity, **look))
    if region is not None:
        ax.axhspan(*region, color=style.SKY, alpha=0.22, linewidth=0, zorder=0, label="extent of the optimal region")
    for edge in box:
        label = "clamp" if edge == box[0] else None
        ax.axhline(edge, color=style.INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1, label=label)
    last = float(walked["step"].max()) if len(walked) else 1.0
    pad = 0.04 * (box[1] - box[0])
    ax.set(xlim=(0, last), ylim=(box[0] - pad, box[1] + pad), xlabel="step", ylabel=style.hyperparameter_label(name))
    style.colour_bar(ax, ScalarMappable(scale, style.STARTS), "value at the start")
    style.legend_above(ax, 2)
    return ax


def distance_over_steps(ax: Axes, distances: Mapping[str, pd.DataFrame]) -> Axes:
    """Median distance to the region over the steps with the middle half of the runs, one line a model.

    Each frame: step, median, q25, q75 in units of the box's sides (0: inside the region).
    """
    for (model, frame), series in zip(distances.items(), style.SERIES, strict=False):
        _line(ax, frame, "median", model, series)
        ax.fill_between(frame["step"], frame["q25"], frame["q75"], color=series[0], alpha=0.15, linewidth=0, zorder=1)
    ax.set(xlabel="step", ylabel="distance to the region (box units)")
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    return ax


def share_inside_over_steps(ax: Axes, distances: Mapping[str, pd.DataFrame], volumes: Mapping[str, float]) -> Axes:
    """The share of runs inside the region over the steps; dotted, the region's share of the box (what chance gives)."""
    for (model, frame), series in zip(distances.items(), style.SERIES, strict=False):
        _line(ax, frame, "share_inside", model, series)
        ax.axhline(volumes[model], color=series[0], linestyle=":", linewidth=1.0, zorder=1)
    ax.set(xlabel="step", ylabel="runs inside the region", ylim=(0, 1.02))
    ax.set_xlim(left=0)
    ax.yaxis.set_major_formatter(style.percent)
    return ax


def _line(ax: Axes, frame: pd.DataFrame, column: str, model: str, series: style.Series) -> None:
    colour, marker, dashes = series
    look: dict[str, Any] = {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 3.5}
    ax.plot(frame["step"], frame[column], markevery=max(1, len(frame) // 8), label=model, zorder=3, **look)


def concentration_curve(ax: Axes, curves: Mapping[str, pd.DataFrame]) -> Axes:
    """Share of the starts (thin) and of the ends (thick) within the best part of the box, over the size of that part.

    Each frame: volume, start, end. A method that does nothing lies on the diagonal; one that always ends in the best
    corner rises at once. It needs no threshold for what counts as the region.
    """
    ax.plot([0, 1], [0, 1], color=style.GREY, linestyle=":", linewidth=1.0, zorder=1)
    for (model, frame), (colour, _, dashes) in zip(curves.items(), style.SERIES, strict=False):
        ax.plot(frame["volume"], frame["start"], color=colour, linewidth=0.8, alpha=0.8, zorder=2)
        ax.plot(frame["volume"], frame["end"], color=colour, linewidth=2.0, linestyle=dashes, zorder=3, label=model)
    ax.set(xlabel="best part of the box, by the surface", ylabel="share of the runs in it", xlim=(0, 1), ylim=(0, 1.02))
    ax.xaxis.set_major_formatter(style.percent)
    ax.yaxis.set_major_formatter(style.percent)
    return ax
