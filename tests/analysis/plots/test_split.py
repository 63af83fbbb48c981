from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.patches import Rectangle

from analysis.frames import NotComputable, pairs, thinned
from analysis.plots import split as plots_split
from analysis.plots import style
from analysis.statistics.diagonal import bland_altman, compare_arms
from analysis.statistics.improvement import SLIDES_SHARES, good_threshold, split, split_curve
from analysis.statistics.region import Region
from analysis.study import Study
from tests.analysis.plots.drawn import heights, points


def test_split_scatter_counts_every_configuration_and_puts_the_diverged_on_the_edge(
    ax: Axes, cornered: Study, region: Region
) -> None:
    both, good = pairs(cornered.runs, "initial", "rerun", "mlp-64"), good_threshold(region)
    table = split(cornered.runs, "mlp-64", good.value)
    assert not isinstance(table, NotComputable)
    plots_split.split_scatter(ax, both, good.value, table)
    drawn = points(ax)
    assert len(drawn) == len(both) == 40
    lost = both[["t2_loss_initial", "t2_loss_rerun"]].isna().any(axis=1).sum()
    edge = ax.get_xlim()[1]
    assert (drawn == edge).any(axis=1).sum() == lost > 0
    legend = ax.get_legend()
    assert legend is not None
    text = [t.get_text() for t in legend.get_texts()]
    for _, row in table.iterrows():
        words = row["outcome"].replace("→", " → ")
        assert f"{words}: {row['count']} ({100 * row['share']:.0f} %)" in text
    thresholds = [line for line in ax.lines if str(line.get_label()).startswith("threshold")]
    assert [np.asarray(line.get_xdata())[0] for line in thresholds] == [good.value]


def test_split_curve_marks_the_slides_and_where_it_fits(ax: Axes, cornered: Study, region: Region) -> None:
    curve = split_curve(cornered.runs, "mlp-64", region.best_value)
    assert not isinstance(curve, NotComputable)
    holds = curve.iloc[[40, 41]]
    plots_split.split_curve_plot(ax, curve, 0.1, SLIDES_SHARES, holds)
    level = {ends[0] for ends in map(heights, ax.lines) if len(ends) == 2 and ends[0] == ends[1]}
    assert {0.58, 0.20} <= level
    assert {t.get_text() for t in ax.texts} == {"slides 58 %", "slides 20 %"}
    bands = [p for p in ax.patches if isinstance(p, Rectangle) and same_color(p.get_facecolor()[:3], style.YELLOW)]
    low, high = min(p.get_x() for p in bands), max(p.get_x() + p.get_width() for p in bands)
    assert curve["margin"][39] < low < curve["margin"][40]
    assert curve["margin"][41] < high < curve["margin"][42]


def test_bland_altman_draws_the_computed_lines(ax: Axes, cornered: Study) -> None:
    result = compare_arms(cornered.runs, "online", "rerun", "test_loss", "mlp-64", 0.005)
    assert not isinstance(result, NotComputable)
    frame = bland_altman(cornered.runs, "online", "rerun", "test_loss", "mlp-64")
    plots_split.bland_altman_plot(ax, frame, result)
    assert [heights(line)[0] for line in ax.lines] == [0, result.mean_difference.value, *result.limits_of_agreement]
    np.testing.assert_array_equal(points(ax), frame[["mean", "difference"]])


def test_a_large_scatter_is_thinned_evenly() -> None:
    frame = pd.DataFrame({"x": np.arange(1_000_000)})
    drawn = thinned(frame, plots_split.MOST_POINTS)
    assert len(drawn) == plots_split.MOST_POINTS
    assert drawn["x"].iloc[0] == 0
    assert drawn["x"].iloc[-1] == 999_999
    assert np.ptp(np.diff(drawn["x"])) <= 1
