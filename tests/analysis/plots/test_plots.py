"""The pictures: what is drawn is the data, nothing overlaps, and the same data gives the same file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from analysis import load_study, plots
from analysis.plots import cost as plots_cost
from analysis.plots import region as plots_region
from analysis.plots import split as plots_split
from analysis.plots import steps as plots_steps
from analysis.plots import style
from analysis.report.figures import BUILDERS
from analysis.report.view import StudyView
from analysis.statistics.diagonal import bland_altman, compare_arms
from analysis.statistics.frames import NotComputable, pairs
from analysis.statistics.improvement import SLIDES_SHARES, good_threshold, split, split_curve
from analysis.statistics.region import Region, find_region
from analysis.study import Study
from tests.analysis.synthetic import Truth, write_study


@pytest.fixture(autouse=True)
def paper() -> Iterator[None]:
    with style.paper_style():
        yield


@pytest.fixture(scope="module")
def cornered(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The optimum is in a corner of the box, so that many runs end on a clamp; some diverge."""
    truth = Truth(optimum={"mlp-64": (0.97, 0.03)}, end_spread=0.08, diverged=0.1)
    folder = tmp_path_factory.mktemp("plots") / "cornered"
    return load_study(write_study(folder, truth=truth, models=("mlp-64",), configurations=40))


@pytest.fixture(scope="module")
def region(cornered: Study) -> Region:
    found = find_region(cornered.runs, "mlp-64", cornered.boxes)
    assert isinstance(found, Region)
    return found


@pytest.fixture
def ax() -> Axes:
    axes = style.new_figure(5, 4).subplots()
    assert isinstance(axes, Axes)
    return axes


def online_of(study: Study, model: str = "mlp-64") -> pd.DataFrame:
    return study.runs[(study.runs["model"] == model) & (study.runs["arm"] == "online")]


def points(ax: Axes, marker_vertices: int | None = None) -> np.ndarray:
    """The offsets of every scatter in ``ax``; of those whose marker has so many vertices."""
    chosen = [c for c in ax.collections if len(c.get_offsets()) and hasattr(c, "get_sizes")]
    if marker_vertices is not None:
        chosen = [c for c in chosen if len(c.get_paths()[0].vertices) == marker_vertices]
    return np.vstack([np.asarray(c.get_offsets()) for c in chosen])


def test_region_picture_shows_starts_ends_clamps_and_the_outline(ax: Axes, cornered: Study, region: Region) -> None:
    online = online_of(cornered)
    plots_region.region_convergence(ax, online, cornered.trajectories.query("arm == 'online'"), cornered.boxes, region)
    marks = [c for c in ax.collections if len(c.get_offsets()) and hasattr(c, "get_sizes")]
    starts, discs, squares = marks
    np.testing.assert_array_equal(starts.get_offsets(), online[["log10_l2_initial", "input_noise_std_initial"]])
    assert all(same_color(c, "white") for c in starts.get_facecolors())
    finished = online[online["status"] == "completed"]
    assert len(finished) < len(online)
    ends = finished[["log10_l2_final", "input_noise_std_final"]].to_numpy()
    clamped = (ends[:, 0] == -2.5) | (ends[:, 1] == 0.0)
    assert 3 < clamped.sum() < len(ends)
    for drawn, chosen in ((discs, ends[~clamped]), (squares, ends[clamped])):
        np.testing.assert_array_equal(drawn.get_offsets(), chosen)
        inside = [same_color(c[:3], style.BLUE) for c in drawn.get_facecolors()]
        assert inside == region.contains(chosen).tolist()
        assert not drawn.get_clip_on()  # a mark on a clamp is seen whole
    outline = [p.vertices for c in ax.collections for p in c.get_paths() if same_color(c.get_edgecolor()[:1], "black")]
    np.testing.assert_allclose(region.surface.predict(np.vstack(outline)), region.threshold, rtol=2e-3)
    walked = cornered.trajectories.query("arm == 'online'")["run_id"].nunique()
    assert len(ax.lines) == 1 + walked  # 1: the grid's cells
    assert ax.get_xlim() == cornered.boxes["log10_l2"]


def test_plot_functions_take_axes_and_return_them() -> None:
    drawing = [getattr(plots, name) for name in plots.__all__]
    drawing = [f for f in drawing if next(iter(inspect.signature(f).parameters), None) == "ax"]
    assert len(drawing) == 16
    assert {inspect.signature(f).return_annotation for f in drawing} == {"Axes"}
    ax = style.new_figure(3, 3).subplots()
    boxes = {"log10_l2": (-5.5, -2.5), "input_noise_std": (0.0, 0.8)}
    runs = pd.DataFrame(
        {
            "run_id": ["a"],
            "log10_l2_initial": [-5.0],
            "log10_l2_final": [-3.0],
            "input_noise_std_initial": [0.1],
            "input_noise_std_final": [0.8],
        }
    )
    assert plots.region_convergence(ax, runs, None, boxes) is ax  # without a grid: starts and ends alone


def test_trajectories_begin_at_the_starts(ax: Axes, cornered: Study) -> None:
    online, paths = online_of(cornered), cornered.trajectories.query("arm == 'online'")
    plots_steps.hyperparameter_trajectories(ax, paths, online, "input_noise_std", (0.0, 0.8))
    segments = ax.collections[0].get_segments()
    assert len(segments) == paths["run_id"].nunique()
    assert all(s[0, 0] == 0 for s in segments)
    begun = online.set_index("run_id").loc[paths["run_id"].unique(), "input_noise_std_initial"]
    np.testing.assert_array_equal([s[0, 1] for s in segments], begun)


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
    assert [line.get_xdata()[0] for line in ax.lines if line.get_label().startswith("threshold")] == [good.value]


def test_split_curve_marks_the_slides_and_where_it_fits(ax: Axes, cornered: Study, region: Region) -> None:
    curve = split_curve(cornered.runs, "mlp-64", region.best_value)
    assert not isinstance(curve, NotComputable)
    holds = curve.iloc[[40, 41]]
    plots_split.split_curve_plot(ax, curve, 0.1, SLIDES_SHARES, holds)
    level = {
        line.get_ydata()[0]
        for line in ax.lines
        if len(line.get_ydata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]
    }
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
    heights = [line.get_ydata()[0] for line in ax.lines]
    assert heights == [0, result.mean_difference.value, *result.limits_of_agreement]
    np.testing.assert_array_equal(points(ax), frame[["mean", "difference"]])


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


def test_a_large_scatter_is_thinned_evenly() -> None:
    frame = pd.DataFrame({"x": np.arange(1_000_000)})
    drawn = plots_split.thinned(frame)
    assert len(drawn) == plots_split.MOST_POINTS
    assert drawn["x"].iloc[0] == 0
    assert drawn["x"].iloc[-1] == 999_999
    assert np.ptp(np.diff(drawn["x"])) <= 1


def drawn_texts(figure: Figure) -> list[tuple[str, Any]]:
    """Every text that is drawn, with its extent in pixels; an axis also has labels outside its view, which are not."""
    figure.draw_without_rendering()
    hidden: set[Text] = set()
    for axis in (a for ax in figure.axes for a in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        slack = 1e-9 * (high - low)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low - slack <= tick.get_loc() <= high + slack:
                hidden |= {tick.label1, tick.label2}
    return [
        (t.get_text(), t.get_window_extent())
        for t in figure.findobj(Text)
        if t not in hidden and t.get_visible() and t.get_text().strip()
    ]


@pytest.mark.parametrize(("stem", "builder"), [(stem, build) for _, stem, _, build in BUILDERS])
def test_no_words_of_a_picture_overlap(stem: str, builder: Callable[[StudyView], Any], study: Study) -> None:
    drawn = builder(StudyView(study))
    assert not isinstance(drawn, NotComputable)
    words = drawn_texts(drawn[0])
    assert len(words) > 8
    for (first, a), (second, b) in combinations(words, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        up = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 1.5 or up < 1.5, f"{stem}: {first!r} lies on {second!r}"
    assert drawn[1].endswith(".")
    assert len(drawn[1]) > 80  # the caption defines what is shown


def test_the_same_picture_gives_the_same_files(tmp_path: Path) -> None:
    def draw(value: float) -> tuple[bytes, bytes]:
        figure = style.new_figure(3, 2)
        figure.subplots().plot([0, value], [0, 1])
        return tuple(p.read_bytes() for p in style.save_figure(figure, tmp_path / "x"))  # type: ignore[return-value]

    assert draw(1) == draw(1)
    assert draw(1)[0] != draw(2)[0]
    assert draw(1)[1] != draw(2)[1]


def test_series_differ_without_colour_and_are_dark_enough_on_white() -> None:
    assert len({marker for _, marker, _ in style.SERIES}) == len(style.SERIES)
    assert len({str(dashes) for *_, dashes in style.SERIES}) == len(style.SERIES)
    for colour, *_ in style.SERIES:
        red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
        luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        assert 1.05 / (luminance + 0.05) > 1.9, colour  # WCAG contrast; Okabe and Ito's palest line has 2.1
