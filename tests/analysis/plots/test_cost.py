from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.plots import cost as plots_cost
from tests.analysis.plots.drawn import points


def test_overhead_draws_every_pair(ax: Axes) -> None:
    ratios = pd.DataFrame({"model": ["a"] * 3 + ["b"] * 2, "ratio": [1.1, 1.2, 1.3, 2.0, 2.1]})
    table = pd.DataFrame(
        {
            "model": ["a", "b", "all"],
            "n": [3, 2, 5],
            "ratio": [1.2, 2.05, 1.5],
            "low": [1.1, np.nan, 1],
            "high": [1.3, np.nan, 2],
        }
    )
    plots_cost.overhead_plot(ax, ratios, table)
    assert sorted(points(ax)[:, 0]) == sorted(ratios["ratio"])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert {"1.20", "2.05", "slides: 1.12"} == {t.get_text() for t in ax.texts}


def test_a_comparison_has_no_key_for_what_no_study_has(ax: Axes) -> None:
    rows = pd.DataFrame({"label": ["a", "b"], "online_test_loss": [0.2, 0.3], "rerun_test_loss": [np.nan, np.nan]})
    plots_cost.comparison_loss(ax, rows)
    assert ax.get_legend_handles_labels()[1] == ["T1-T2"]
