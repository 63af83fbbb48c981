"""What a test asks of axes that were drawn into."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.study import Study


def online_of(study: Study, model: str = "mlp-64") -> pd.DataFrame:
    return study.runs[(study.runs["model"] == model) & (study.runs["arm"] == "online")]


def points(ax: Axes, marker_vertices: int | None = None) -> np.ndarray:
    """The offsets of every scatter in ``ax``; of those whose marker has so many vertices."""
    chosen = [c for c in ax.collections if len(c.get_offsets()) and hasattr(c, "get_sizes")]
    if marker_vertices is not None:
        chosen = [c for c in chosen if len(c.get_paths()[0].vertices) == marker_vertices]
    return np.vstack([np.asarray(c.get_offsets()) for c in chosen])
