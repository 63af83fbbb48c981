from __future__ import annotations

import inspect
from pathlib import Path

import pandas as pd
from matplotlib.colors import to_rgb

from analysis import plots
from analysis.plots import style


def test_plot_functions_take_axes_and_return_them() -> None:
    drawing = [getattr(plots, name) for name in plots.__all__]
    drawing = [f for f in drawing if next(iter(inspect.signature(f).parameters), None) == "ax"]
    assert len(drawing) == 18
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
