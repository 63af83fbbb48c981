"""The picture of T1-T2 and its rivals at equal compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from analysis.plots import style

# Method -> colour, marker and dashes. What adds something to a method has its colour, dashed.
LOOKS: dict[str, style.Series] = {
    "random search": (style.INK, "o", "-"),
    "ASHA": (style.ORANGE, "v", "-"),
    "Hyperband": (style.GREY, "P", (0, (3, 1, 1, 1))),
    "TPE": (style.VERMILLION, "s", "-"),
    "TPE + ASHA": (style.VERMILLION, "s", "--"),
    "PBT": (style.PURPLE, "D", ":"),
    "online": (style.BLUE, "^", "-"),
    "online + rerun": (style.BLUE, "^", "--"),
    "t1t2": (style.GREEN, "X", "-"),
    "t1t2 + rerun": (style.GREEN, "X", "--"),
}
OTHER: style.Series = (style.SKY, "*", "-.")  # a method that is not named here
OWN = ("online", "online + rerun")  # the methods of this project: above the others, and with stronger lines
_SHOWN_FROM = 4.0  # trainings; what is worse than all values from here on is not shown
_GAP = 0.062  # between two labels, in heights of the axes


def baseline_plot(ax: Axes, curve: pd.DataFrame, metric: str = "test_loss") -> Axes:
    """The expected result of what each method has chosen on T2, over the compute spent, with intervals.

    ``curve``: method, trainings (compute in fixed-hyperparameter trainings), expected, low, high. Each line has its
    name at its right end, and is flat from one budget to the next, as a choice is. The upper edge is the worst value
    from four trainings on: lines may come in from above it.
    """
    last: list[tuple[str, float, float]] = []
    for method, part in curve.sort_values("trainings", kind="stable").groupby("method", sort=False):
        colour, marker, dashes = LOOKS.get(str(method), OTHER)
        emphasis = 1.0 if method in OWN else 0.0
        trainings = part["trainings"].to_numpy(dtype=float)
        look: dict[str, Any] = {
            "color": colour,
            "linestyle": dashes,
            "linewidth": 1.3 + emphasis,
            "zorder": 3 + emphasis,
        }
        marks: dict[str, Any] = {"marker": marker, "markevery": _doublings(trainings), "markersize": 6.5}
        ax.plot(
            trainings,
            part["expected"],
            drawstyle="steps-post",
            markeredgecolor="white",
            markeredgewidth=0.5,
            **marks,
            **look,
        )
        band: dict[str, Any] = {"color": colour, "alpha": 0.07 + 0.11 * emphasis, "linewidth": 0}
        ax.fill_between(trainings, part["low"], part["high"], step="post", zorder=1, **band)
        last.append((str(method), float(trainings[-1]), float(part["expected"].iloc[-1])))
    end = float(curve["trainings"].max())
    ticks = 2.0 ** np.arange(np.floor(np.log2(max(end, 1.0))) + 1)
    ax.set(
        xlabel="compute (trainings with fixed hyperparameters)",
        ylabel=f"{style.metric_label(metric)} of the run chosen on T2",
    )
    ax.set_xscale("log", base=2)
    ax.set_xlim(0.95, end * 1.06)
    ax.xaxis.set_major_locator(FixedLocator(ticks.tolist()))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.set_ylim(*_heights(curve))
    _name_lines(ax, last)
    return ax


def _doublings(trainings: np.ndarray[Any, Any]) -> list[int]:
    """The places of the marks: the first and the last budget, and one in each doubling between."""
    doubling = np.floor(np.log2(trainings) + 1e-9)
    return sorted({0, len(trainings) - 1, *np.unique(doubling, return_index=True)[1].tolist()})


def _heights(curve: pd.DataFrame) -> tuple[float, float]:
    """The range of what is shown, with a margin."""
    shown = curve[curve["trainings"] >= _SHOWN_FROM]
    shown = curve if shown.empty else shown
    low = float(shown[["low", "expected"]].min().min())
    high = float(shown["expected"].max())
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _name_lines(ax: Axes, last: Sequence[tuple[str, float, float]]) -> None:
    """The methods' names to the right of the axes, at the heights of their lines' ends as far as they do not meet."""
    low, high = ax.get_ylim()
    rising = sorted(last, key=lambda line: line[2])
    heights = _apart([(y - low) / (high - low) for _, _, y in rising])
    for (method, x, y), height in zip(rising, heights, strict=True):
        colour, *_ = LOOKS.get(method, OTHER)
        weight = "bold" if method in OWN else "normal"
        ax.text(
            1.06, height, method, color=colour, fontsize=8.5, fontweight=weight, va="center", transform=ax.transAxes
        )
        lead: dict[str, Any] = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "relpos": (0, 0.5)}
        ax.annotate("", (x, min(y, high)), (1.05, height), textcoords="axes fraction", arrowprops=lead)


def _apart(heights: Sequence[float]) -> list[float]:
    """Rising ``heights`` moved so that each is a gap above the one before; inside [0, 1] as long as there is room."""
    top = max(1.0, (len(heights) - 1) * _GAP)
    upwards: list[float] = []
    for k, height in enumerate(heights):
        highest = top - (len(heights) - 1 - k) * _GAP
        wished = min(max(height, k * _GAP), highest)
        upwards.append(max(wished, upwards[-1] + _GAP) if upwards else wished)
    return upwards
