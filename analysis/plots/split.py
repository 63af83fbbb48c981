"""Pictures of the results: the improvement split, and one arm against another, configuration by configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import ArrayLike

from analysis.frames import Floats, thinned
from analysis.plots import style
from analysis.statistics.diagonal import Diagonal
from analysis.statistics.improvement import OUTCOMES, outcomes

COLOURS = dict(zip(OUTCOMES, (style.BLUE, style.GREEN, style.GREY, style.VERMILLION), strict=True))
MARKERS = dict(zip(OUTCOMES, "o^sv", strict=True))
WIDE = 2.5  # losses that span a larger factor are drawn on logarithmic axes
MOST_POINTS = 3000  # of one scatter: a picture of a million runs stays small; every number beside it counts all
_DOT: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.5, "zorder": 3}
_ARM_WORDS = {
    "initial": "initial hyperparameters",
    "online": "T1-T2 run",
    "rerun": "retrained with T1-T2's values",
    "grid": "grid",
}


def split_scatter(
    ax: Axes,
    pairs: pd.DataFrame,
    threshold: float,
    table: pd.DataFrame,
    metric: str = "t2_loss",
    first: str = "initial",
    second: str = "rerun",
) -> Axes:
    """The loss with the optimised against the loss with the initial hyperparameters, split at ``threshold``.

    ``pairs``: ``{metric}_{first}`` and ``{metric}_{second}``, a row a configuration; ``table``: outcome, count, share.
    Diverged runs have no loss: they count as bad in the table and stand on the upper or right edge here.
    """
    x, y = pairs[f"{metric}_{first}"].to_numpy(dtype=float), pairs[f"{metric}_{second}"].to_numpy(dtype=float)
    low, high = _limits(np.r_[x, y, threshold])
    kind = np.array(OUTCOMES)[outcomes(x, y, threshold)]
    shown = thinned(pd.DataFrame({"x": x, "y": y, "kind": kind}).fillna({"x": high, "y": high}), MOST_POINTS)
    rows = table.set_index("outcome")
    for outcome in OUTCOMES:
        part = shown[shown["kind"] == outcome]
        count, share = int(rows["count"][outcome]), style.percent(rows["share"][outcome])
        dots = ax.scatter(part["x"], part["y"], s=26, c=COLOURS[outcome], marker=MARKERS[outcome], **_DOT)
        dots.set(clip_on=False, rasterized=len(shown) > 500, label=f"{outcome.replace('→', ' → ')}: {count} ({share})")
    ax.plot([low, high], [low, high], color=style.GREY, linewidth=0.8, linestyle=":", zorder=1)
    ax.axvline(threshold, color=style.INK, linewidth=0.9, linestyle="--", zorder=2, label=f"threshold {threshold:.3g}")
    ax.axhline(threshold, color=style.INK, linewidth=0.9, linestyle="--", zorder=2)
    _loss_axes(ax, low, high)
    style.legend_above(ax, 2)
    label = style.metric_label(metric)
    ax.set(xlabel=f"{label}, {_ARM_WORDS[first]}", ylabel=f"{label}, {_ARM_WORDS[second]}")
    return ax


def split_curve_plot(
    ax: Axes,
    curve: pd.DataFrame,
    margin: float | None,
    slides_shares: Mapping[str, float],
    holds: pd.DataFrame | None = None,
) -> Axes:
    """The four shares over the threshold, as its excess over the best cell's loss; the slides' two shares marked.

    ``curve``: margin (threshold / best - 1; where it is NaN the threshold itself is the axis), each outcome with
    ``_low`` and ``_high``; ``margin`` is where this study's own threshold lies; ``holds``: the rows at which both of
    the slides' shares lie inside the intervals (a yellow band).
    """
    relative = bool(curve["margin"].notna().all())
    x = curve["margin" if relative else "threshold"]
    _fitting_band(ax, x, np.array([], dtype=bool) if holds is None else curve["threshold"].isin(holds["threshold"]))
    for outcome in OUTCOMES:
        _share_line(ax, x, curve, outcome)
    for outcome, share in slides_shares.items():
        ax.axhline(share, color=COLOURS[outcome], linewidth=1.0, linestyle=(0, (4, 3)), zorder=3)
        _note(ax, share, f"slides {style.percent(share)}", COLOURS[outcome])
    if relative and margin is not None:
        ax.axvline(margin, color=style.INK, linewidth=0.9, linestyle="--", zorder=3, label="threshold of this study")
    _threshold_axes(ax, x, relative)
    style.legend_above(ax, 3)
    return ax


def _fitting_band(ax: Axes, x: pd.Series[float], fitting: ArrayLike) -> None:
    """A yellow background at the thresholds ``x`` that are ``fitting``."""
    edges = np.r_[x.iloc[0], (x.to_numpy()[1:] + x.to_numpy()[:-1]) / 2, x.iloc[-1]]
    places = np.flatnonzero(fitting)
    for i in places:
        ax.axvspan(edges[i], edges[i + 1], color=style.YELLOW, alpha=0.35, linewidth=0, zorder=0)
    words = f"the slides' shares fit{'' if len(places) else ': nowhere'}"
    ax.fill([], [], color=style.YELLOW, alpha=0.35, label=words)


def _share_line(ax: Axes, x: pd.Series[float], curve: pd.DataFrame, outcome: str) -> None:
    line: dict[str, Any] = {"color": COLOURS[outcome], "linewidth": 1.8, "zorder": 4}
    dots: dict[str, Any] = {"marker": MARKERS[outcome], "markersize": 4, "markevery": 0.12, "markeredgecolor": "white"}
    ax.plot(x, curve[outcome], label=outcome.replace("→", " → "), markeredgewidth=0.5, **line, **dots)
    low, high = curve[f"{outcome}_low"], curve[f"{outcome}_high"]
    ax.fill_between(x, low, high, color=COLOURS[outcome], alpha=0.14, linewidth=0, zorder=2)


def _threshold_axes(ax: Axes, x: pd.Series[float], relative: bool) -> None:
    ax.set(ylabel="share of the configurations", ylim=(0, 1), xlim=(float(x.min()), float(x.max())))
    ax.yaxis.set_major_formatter(style.percent)
    if relative:
        ax.set(xlabel="threshold above the best cell's loss", xlim=(0, float(x.max())))
        ax.set_xscale("function", functions=(_root, _square))  # as the curve's points: fine near the best cell
        ax.set_xticks([m for m in (0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0) if m <= float(x.max()) + 1e-9])
        ax.xaxis.set_major_formatter(style.percent)
    else:
        ax.set_xlabel("threshold of good")


def _root(x: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(x, 0.0)))


def _square(x: Floats) -> Floats:
    return np.asarray(np.square(x))


def diagonal_scatter(
    ax: Axes,
    pairs: pd.DataFrame,
    first: str = "online",
    second: str = "rerun",
    metric: str = "test_loss",
    margin: float | None = None,
) -> Axes:
    """One arm against another by configuration, with the diagonal and, around it, the margin of seed noise."""
    known = pairs[[f"{metric}_{first}", f"{metric}_{second}", "model"]].dropna()
    low, high = _limits(known[[f"{metric}_{first}", f"{metric}_{second}"]].to_numpy(dtype=float).ravel())
    line = np.linspace(low, high, 200)
    if margin is not None:
        ax.fill_between(
            line, line - margin, line + margin, color=style.FAINT, alpha=0.7, linewidth=0, zorder=0, label="seed noise"
        )
    ax.plot(line, line, color=style.INK, linewidth=0.9, zorder=2)
    _by_model(ax, known, f"{metric}_{first}", f"{metric}_{second}")
    _loss_axes(ax, low, high)
    label = style.metric_label(metric)
    ax.set(xlabel=f"{label}, {_ARM_WORDS[first]}", ylabel=f"{label}, {_ARM_WORDS[second]}")
    style.legend_above(ax, 3)
    return ax


def bland_altman_plot(
    ax: Axes,
    frame: pd.DataFrame,
    agreement: Diagonal,
    metric: str = "test_loss",
    first: str = "online",
    second: str = "rerun",
) -> Axes:
    """Difference over mean (Bland and Altman 1986) with the mean difference, its interval, and limits of agreement.

    ``frame``: model, mean, difference (``second`` minus ``first``).
    """
    mean, (lower, upper) = agreement.mean_difference, agreement.limits_of_agreement
    if agreement.margin is not None:
        ax.axhspan(-agreement.margin, agreement.margin, color=style.FAINT, alpha=0.7, linewidth=0, zorder=0)
    ax.axhline(0, color=style.INK, linewidth=0.8, zorder=1)
    if np.isfinite(mean.low) and np.isfinite(mean.high):
        ax.axhspan(mean.low, mean.high, color=style.BLUE, alpha=0.25, linewidth=0, zorder=1)
    ax.axhline(mean.value, color=style.BLUE, linewidth=1.2, zorder=2)
    for limit in (lower, upper):
        ax.axhline(limit, color=style.VERMILLION, linewidth=1.0, linestyle="--", zorder=2)
    _by_model(ax, frame, "mean", "difference", legend=False)
    for value, words, colour in (
        (mean.value, "mean", style.BLUE),
        (lower, "−1.96 sd", style.VERMILLION),
        (upper, "+1.96 sd", style.VERMILLION),
    ):
        if np.isfinite(value):
            _note(ax, value, f"{words}: {value:.2g}".replace("-", "−"), colour)
    label = style.metric_label(metric)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_box_aspect(1)
    ax.set(xlabel=f"mean {label} of {first} and {second}", ylabel=f"{label}, {second} − {first}")
    return ax


def _by_model(ax: Axes, frame: pd.DataFrame, x: str, y: str, legend: bool = True) -> None:
    shown = thinned(frame, MOST_POINTS)
    for (model, part), (colour, marker, _) in zip(shown.groupby("model", sort=False), style.SERIES, strict=False):
        dots = ax.scatter(part[x], part[y], s=24, c=colour, marker=marker, **_DOT)
        dots.set(rasterized=len(shown) > 500, label=str(model) if legend else None)


def _note(ax: Axes, height: float, words: str, colour: str) -> None:
    """``words`` to the right of the axes, at a height in data units."""
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (3, 0), "textcoords": "offset points"}
    ax.annotate(words, (1.0, height), color=colour, fontsize=7.5, va="center", **place)


def _limits(values: Floats) -> tuple[float, float]:
    """Equal limits for both axes, a little beyond the finite ``values``."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if low > 0 and high / low > WIDE:
        return low / 1.08, high * 1.08
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - pad, high + pad


def _loss_axes(ax: Axes, low: float, high: float) -> None:
    """Equal square axes; logarithmic where the losses span a large factor."""
    if low > 0 and high / low > WIDE:
        ax.set(xscale="log", yscale="log")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low > 10 else (1, 1.5, 2, 3, 4, 5, 7)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set(xlim=(low, high), ylim=(low, high))
    ax.set_box_aspect(1)
