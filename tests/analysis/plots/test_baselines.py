from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.plots.baselines import LOOKS, OTHER, baseline_plot
from analysis.statistics.baselines import METHODS, baseline_curve
from tests.analysis.plots.drawn import heights
from tests.analysis.synthetic_baselines import TRAINING, make_baselines


@pytest.fixture(scope="module")
def curve() -> pd.DataFrame:
    found = baseline_curve(make_baselines(repetitions=4), "mlp-64", training=TRAINING)
    assert isinstance(found, pd.DataFrame)
    return found


def named(ax: Axes) -> list[Text]:
    """The names of the lines, without what leads to them."""
    return [text for text in ax.texts if text.get_text()]


def test_each_method_has_its_line_and_its_name_in_its_colour(ax: Axes, curve: pd.DataFrame) -> None:
    baseline_plot(ax, curve)
    methods = list(curve.sort_values("trainings", kind="stable")["method"].unique())
    assert len(ax.lines) == len(methods) == 10
    names = {text.get_text(): text for text in named(ax)}
    for line, method in zip(ax.lines, methods, strict=True):
        part = curve[curve["method"] == method]
        assert heights(line) == part["expected"].tolist()
        assert np.asarray(line.get_xdata()).tolist() == part["trainings"].tolist()
        assert to_hex(str(line.get_color())) == to_hex(str(names[method].get_color())) == to_hex(LOOKS[method][0])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "4", "8", "16"]


def test_no_two_methods_look_alike() -> None:
    assert set(LOOKS) == set(METHODS.values())
    looks = [*LOOKS.values(), OTHER]
    assert len({(colour, str(dashes)) for colour, _, dashes in looks}) == len(looks)


@pytest.mark.parametrize("same", [False, True], ids=["as they end", "all ends equal"])
def test_names_do_not_overlap_and_stay_beside_the_axes(curve: pd.DataFrame, same: bool) -> None:
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    ax = figure.subplots()
    baseline_plot(ax, curve.assign(expected=0.3, low=0.2, high=0.4) if same else curve)
    figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in named(ax)), key=lambda box: float(box.y0))
    assert len(boxes) == 10
    assert all(above.y0 >= below.y1 - 1 for below, above in pairwise(boxes))
    frame = ax.get_window_extent()
    assert boxes[0].y0 >= frame.y0 - 12
    assert boxes[-1].y1 <= frame.y1 + 12
    assert min(box.x0 for box in boxes) > frame.x1


def test_what_is_worse_than_all_from_four_trainings_on_is_above_the_picture(ax: Axes) -> None:
    rows = [("random search", t, v) for t, v in ((1, 9.0), (2, 5.0), (4, 0.5), (8, 0.3))]
    few = pd.DataFrame(rows, columns=["method", "trainings", "expected"])
    baseline_plot(ax, few.assign(low=few["expected"] - 0.05, high=few["expected"] + 0.05))
    low, high = ax.get_ylim()
    assert 0.2 < low < 0.25
    assert 0.5 < high < 0.55


def test_a_small_budget_is_shown_whole_and_an_unknown_method_too(ax: Axes) -> None:
    few = pd.DataFrame({"method": ["mine"] * 2, "trainings": [1.0, 2.0], "expected": [0.5, 0.4]})
    baseline_plot(ax, few.assign(low=np.nan, high=np.nan))
    assert ax.get_ylim()[1] > 0.5
    assert [text.get_text() for text in named(ax)] == ["mine"]
