"""Pictures of the optimal region: the response surface with the runs on it, and the regions of several models.

Every function takes the frames of :mod:`analysis`, draws into the given axes and returns them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from analysis.frames import ROUNDING, Boxes, Floats
from analysis.plots import style
from analysis.statistics.region import Region

LEVELS = 15


def region_convergence(
    ax: Axes,
    online: pd.DataFrame,
    trajectories: pd.DataFrame | None,
    boxes: Boxes,
    region: Region | None = None,
    names: Sequence[str] | None = None,
) -> Axes:
    """Where the runs start, walk and end, over the surface of the fixed-hyperparameter loss.

    ``online`` holds one row a run with ``{name}_initial`` and ``{name}_final``; ``trajectories`` run_id, step and one
    column a hyperparameter, of these runs or more (None: starts and ends alone). ``names`` are the two axes, by default
    the first two of ``boxes``; where the surface has more, the picture is its slice through the optimum. With one
    hyperparameter the second axis is the T2 loss. Hollow: starts. Filled: ends, blue inside the region and vermillion
    outside, a square on a clamp.
    """
    pair = list(names or boxes)[:2]
    if len(pair) < 2:
        return _one_dimension(ax, online, boxes, pair[0], region)
    first, second = pair
    if region is not None and {first, second} <= set(region.surface.names):
        draw_surface(ax, region, boxes, first, second)
    if trajectories is not None:
        starts = online.set_index("run_id")
        walked = trajectories[trajectories["run_id"].isin(starts.index)]
        opacity = 0.6 * min(1.0, (40.0 / max(len(starts), 1)) ** 0.5)  # fainter where there are many lines
        for run_id, path in walked.groupby("run_id", sort=False):
            begin = starts.loc[run_id]
            x, y = (np.r_[begin[f"{h}_initial"], path[h]] for h in pair)
            ax.plot(x, y, color="#222222", linewidth=0.7, alpha=opacity, zorder=3)
    _marks(ax, online, {h: boxes[h] for h in pair}, region, [(f"{h}_initial", f"{h}_final") for h in pair])
    frame_box(ax, boxes[first], boxes[second])
    ax.set(xlabel=style.hyperparameter_label(first), ylabel=style.hyperparameter_label(second))
    return ax


def region_legend(axes: int = 2, surface: bool = True, trajectories: bool = True) -> list[Artist]:
    """The key of :func:`region_convergence` over ``axes`` hyperparameters, for a legend of the whole figure."""

    def mark(label: str, marker: str, colour: str) -> Line2D:
        look: dict[str, Any] = {"markeredgecolor": "white", "markersize": 6.5, "markeredgewidth": 0.7}
        return Line2D([], [], linestyle="none", marker=marker, color=colour, label=label, **look)

    start = mark("start" if axes > 1 else "start, on the surface", "o", "white")
    start.set(markeredgecolor="#222222", markersize=5.5)
    keys: list[Artist] = [start]
    if trajectories and axes > 1:
        keys.append(Line2D([], [], color="#222222", linewidth=0.9, label="trajectory"))
    if surface:
        keys += [mark("end inside the region", "o", style.BLUE), mark("end outside", "o", style.VERMILLION)]
    else:
        keys.append(mark("end", "o", style.GREY))
    keys.append(mark("end on a clamp", "s", style.GREY))
    if surface and axes > 1:
        keys.append(Line2D([], [], color="black", linewidth=1.8, label="optimal region"))
        keys.append(Line2D([], [], marker="+", color="#444444", linestyle="none", markersize=5, label="grid cell"))
    elif surface:
        keys.append(Patch(color=style.SKY, alpha=0.35, linewidth=0, label="optimal region"))
        keys.append(Line2D([], [], color=style.INK, label="fixed, ± seed noise"))
    return keys


def surface_levels(values: Floats) -> Floats:
    """Contour levels that are fine near the minimum, where the region lies, and coarse on the slopes."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    high = high if high > low else low + 1e-9
    return np.asarray(low + (high - low) * np.linspace(0.0, 1.0, LEVELS) ** 2)


def surface_slice(region: Region, boxes: Boxes, first: str, second: str, k: int = 121) -> tuple[Floats, Floats, Floats]:
    """Two axes [k] and the surface on them [k, k] (rows: ``second``); the region is where it is ≤ ``region.threshold``.

    Hyperparameters beyond the two are held at the surface's optimum.
    """
    x, y = np.linspace(*boxes[first], k), np.linspace(*boxes[second], k)
    mesh = dict(zip((first, second), (m.ravel() for m in np.meshgrid(x, y)), strict=True))
    points = np.stack([mesh.get(h, np.full(k * k, region.optimum[h])) for h in region.surface.names], axis=1)
    return x, y, region.surface.predict(points).reshape(k, k)


def draw_surface(ax: Axes, region: Region, boxes: Boxes, first: str, second: str) -> None:
    """The surface over two hyperparameters with its colour bar, the region's outline, and the grid's cells."""
    x, y, values = surface_slice(region, boxes, first, second)
    levels = surface_levels(values)
    norm = BoundaryNorm(levels, style.SURFACE.N)
    ax.contourf(x, y, values, levels=levels, cmap=style.SURFACE, norm=norm, extend="both", zorder=0)
    if values.min() < region.threshold < values.max():
        for colour, width in (("white", 4.0), ("black", 1.8)):
            ax.contour(x, y, values, levels=[region.threshold], colors=colour, linewidths=width, zorder=2)
    cells = region.cells
    if {first, second} <= set(cells.columns):
        places = cells[[first, second]].drop_duplicates()
        look: dict[str, Any] = {"color": "#444444", "markersize": 4, "markeredgewidth": 0.6}
        ax.plot(places[first], places[second], "+", zorder=1, clip_on=False, **look)
    label = f"{style.metric_label(region.metric)}, fixed hyperparameters"
    bar = style.colour_bar(ax, ScalarMappable(norm, style.SURFACE), label, ticks=levels[::2])
    bar.ax.set_yticklabels([f"{v:.3g}" for v in levels[::2]])
    bar.ax.minorticks_off()


def on_clamp(values: Floats, box: tuple[float, float]) -> NDArray[np.bool_]:
    """Which of ``values`` lie on an edge of their box, or beyond it; False for NaN."""
    tolerance = ROUNDING * (box[1] - box[0])
    return np.asarray((values <= box[0] + tolerance) | (values >= box[1] - tolerance))


def _marks(ax: Axes, runs: pd.DataFrame, boxes: Boxes, region: Region | None, axes: Sequence[tuple[str, str]]) -> None:
    """Starts and ends; the last on top, and never cut by the edge of the box.

    ``boxes`` are those of the hyperparameters shown, ``axes`` the columns of the starts and of the ends along x and y.
    """
    starts, ends = zip(*axes, strict=True)
    size = 1.0 if len(runs) <= 80 else max(0.25, (80.0 / len(runs)) ** 0.5)
    seen: dict[str, Any] = {"clip_on": False, "rasterized": len(runs) > 500}
    hollow: dict[str, Any] = {"facecolors": "white", "edgecolors": "#222222", "linewidths": 0.8, "zorder": 4}
    ax.scatter(runs[starts[0]], runs[starts[1]], s=22 * size, **hollow, **seen)
    finished = runs[runs[list(ends)].notna().all(axis=1)]
    clamped = np.zeros(len(finished), dtype=bool)
    for name, box in boxes.items():
        clamped |= on_clamp(finished[f"{name}_final"].to_numpy(dtype=float), box)
    colours = np.full(len(finished), style.GREY, dtype=object)
    if region is not None:
        points = finished[[f"{h}_final" for h in region.surface.names]].to_numpy(dtype=float)
        colours = np.where(region.contains(points), style.BLUE, style.VERMILLION)
    for marker, chosen in (("o", ~clamped), ("s", clamped)):
        x, y = finished.loc[chosen, ends[0]], finished.loc[chosen, ends[1]]
        look: dict[str, Any] = {"marker": marker, "edgecolors": "white", "linewidths": 0.7, "zorder": 5}
        ax.scatter(x, y, s=36 * size, c=list(colours[chosen]), **look, **seen)


def frame_box(ax: Axes, across: tuple[float, float], up: tuple[float, float] | None) -> None:
    """The search box as the frame; marks are not clipped, so that those on a clamp stand on the frame and are seen."""
    ax.set_xlim(*across)
    if up is not None:
        ax.set_ylim(*up)
        ax.spines[:].set_visible(True)


def _one_dimension(ax: Axes, online: pd.DataFrame, boxes: Boxes, name: str, region: Region | None) -> Axes:
    if region is not None:
        x = np.linspace(*boxes[name], 401)
        mean, spread = region.surface.predict(x[:, None]), region.surface.seed_noise
        inside = region.contains(x[:, None])
        ax.plot(x, mean, color=style.INK, zorder=2)
        ax.fill_between(x, mean - spread, mean + spread, color=style.FAINT, linewidth=0, zorder=0)
        whole = ax.get_xaxis_transform()  # from the bottom to the top of the axes
        look: dict[str, Any] = {"color": style.SKY, "alpha": 0.25, "linewidth": 0, "zorder": 0}
        ax.fill_between(x, 0, 1, where=inside.tolist(), transform=whole, **look)
    known = online.assign(start_height=np.nan)
    if region is not None:
        known["start_height"] = region.surface.predict(known[[f"{name}_initial"]].to_numpy(dtype=float))
    columns = [(f"{name}_initial", f"{name}_final"), ("start_height", "t2_loss")]
    _marks(ax, known, {name: boxes[name]}, region, columns)
    frame_box(ax, boxes[name], None)
    ax.set(xlabel=style.hyperparameter_label(name), ylabel="T2 loss")
    return ax


def region_outlines(ax: Axes, regions: Mapping[str, Region], boxes: Boxes) -> Axes:
    """The optimal regions of several models over one another, each with the minimum of its surface (two axes)."""
    first, second = list(boxes)[:2]
    for (model, region), (colour, marker, dashes) in zip(regions.items(), style.SERIES, strict=False):
        x, y, values = surface_slice(region, boxes, first, second)
        if values.min() < region.threshold < values.max():
            inside = [values.min() - 1, region.threshold]
            ax.contourf(x, y, values, levels=inside, colors=[colour], alpha=0.12, zorder=1)
            line: dict[str, Any] = {"linewidths": 1.8, "linestyles": [dashes], "zorder": 2}
            ax.contour(x, y, values, levels=[region.threshold], colors=[colour], **line)
        look: dict[str, Any] = {"color": colour, "markeredgecolor": "white"}
        ax.plot(region.optimum[first], region.optimum[second], marker, markersize=8, zorder=4, clip_on=False, **look)
        label = f"{model} ({100 * region.volume:.0f} % of the box)"
        ax.plot([], [], marker=marker, linestyle=dashes, label=label, **look)
    frame_box(ax, boxes[first], boxes[second])
    ax.set(xlabel=style.hyperparameter_label(first), ylabel=style.hyperparameter_label(second))
    style.legend_above(ax, 2 if len(regions) > 1 else 1)
    return ax
