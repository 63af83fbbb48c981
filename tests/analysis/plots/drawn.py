"""What a test asks of axes that were drawn into."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D

from analysis.study import Study


def online_of(study: Study, model: str = "mlp-64") -> pd.DataFrame:
    return study.runs[(study.runs["model"] == model) & (study.runs["arm"] == "online")]


def offsets(drawn: Collection) -> np.ndarray:
    """The places of a scatter's marks, [n, 2]."""
    return np.asarray(drawn.get_offsets())


def scatters(ax: Axes) -> list[Collection]:
    """What is drawn as marks."""
    return [c for c in ax.collections if len(offsets(c)) and hasattr(c, "get_sizes")]


def points(ax: Axes, marker_vertices: int | None = None) -> np.ndarray:
    """The offsets of every scatter in ``ax``; of those whose marker has so many vertices."""
    chosen = scatters(ax)
    if marker_vertices is not None:
        chosen = [c for c in chosen if len(np.asarray(c.get_paths()[0].vertices)) == marker_vertices]
    return np.vstack([offsets(c) for c in chosen])


def heights(line: Line2D) -> list[float]:
    """The ordinates of a line."""
    return [float(y) for y in np.asarray(line.get_ydata())]


def colours(values: object) -> list[tuple[float, float, float, float]]:
    """The colours of marks or lines, as matplotlib's ``get_facecolor`` and ``get_edgecolor`` give them."""
    return [to_rgba(value) for value in np.asarray(values)]
