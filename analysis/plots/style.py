"""How every picture looks, and how it is written to disk: the same bytes for the same data.

Colours are those of Okabe and Ito (2008), which stay apart for every common kind of colour blindness; where colour
carries a category, a marker or a line style carries it too, so that a grey print can be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

INK, GREY, FAINT = "#1a1a1a", "#767676", "#d9d9d9"
BLUE, SKY, GREEN, ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
VERMILLION, PURPLE, YELLOW = "#D55E00", "#CC79A7", "#F0E442"

PANEL = 5.2, 4.3  # inches; two panels stand side by side at the width of the report
Series = tuple[str, str, Any]  # colour, marker and dashes of a line
SERIES: tuple[Series, ...] = (
    (BLUE, "o", "-"),
    (VERMILLION, "s", "--"),
    (GREEN, "^", "-."),
    (PURPLE, "D", ":"),
    (ORANGE, "v", (0, (5, 1, 1, 1))),
    (SKY, "P", (0, (1, 1))),
    (INK, "X", (0, (3, 2))),
)

_LABELS = {
    "log10_l2": "log₁₀ L2 penalty, λ",
    "input_noise_std": "input noise std, n₀",
    "hidden_noise_std": "hidden noise std",
    "label_smoothing": "label smoothing",
}
METRIC_LABELS = {
    "t1_loss": "T1 loss",
    "t2_loss": "T2 loss",
    "t2_error": "T2 error",
    "test_loss": "test loss",
    "test_error": "test error",
}

_RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.borderaxespad": 0.3,
    "lines.linewidth": 1.4,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "text.color": INK,
    "savefig.facecolor": "white",
    "figure.dpi": 100.0,
    "savefig.dpi": 160.0,
    "svg.hashsalt": "t1t2",
    "svg.fonttype": "path",
    "path.simplify": True,
}


def _pale(name: str, strength: float) -> LinearSegmentedColormap:
    """The colormap ``name`` mixed with white, light enough for points and lines to be read on top of it."""
    colours = mpl.colormaps[name](np.linspace(0.0, 1.0, 256))[:, :3]
    return LinearSegmentedColormap.from_list(f"{name}_pale", 1.0 - strength * (1.0 - colours))


SURFACE = _pale("viridis_r", 0.62)  # low loss bright, where the ends crowd; high loss dark
STARTS = LinearSegmentedColormap.from_list("starts", mpl.colormaps["cividis"](np.linspace(0.0, 0.88, 256)))  # no yellow


def percent(value: float, _: object = None) -> str:
    """A share as a tick label: 0.2 → ``20 %``."""
    return f"{100 * value:.0f} %"


@contextmanager
def paper_style() -> Iterator[None]:
    """Matplotlib's settings for every picture of this package, for the length of a ``with`` block."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)  # type: ignore[arg-type]  # the stubs know only literal keys
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of ``width`` by ``height`` inches outside pyplot: no global state, so nothing to close."""
    return Figure(figsize=(width, height), layout="constrained")


def panels(
    count: int, width: float = PANEL[0], height: float = PANEL[1], columns: int = 2
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes, at most ``columns`` in a row."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = new_figure(width * columns, height * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def hyperparameter_label(name: str) -> str:
    """A hyperparameter's column name as an axis label: ``log10_l2_layer2`` → ``log₁₀ L2 penalty, λ (layer 2)``."""
    base, layer, number = name.partition("_layer")
    label = _LABELS.get(base, base.replace("_", " "))
    return f"{label} (layer {number})" if layer else label


def metric_label(metric: str) -> str:
    """A loss or error column as an axis label: ``t2_loss`` → ``T2 loss``."""
    return METRIC_LABELS.get(metric, metric.replace("_", " "))


def legend_above(ax: Axes, columns: int) -> None:
    """The legend in a row above the axes, where no data can lie under it."""
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderaxespad=0.2, columnspacing=1.2)


def colour_bar(ax: Axes, mappable: ScalarMappable, label: str, ticks: ArrayLike | None = None) -> Colorbar:
    """The key of a picture's colours, to the right of the axes."""
    bar = ax.figure.colorbar(mappable, ax=ax, ticks=ticks, pad=0.02, fraction=0.05, aspect=28)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.outline.set_linewidth(0.5)
    return bar


def save_figure(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write ``stem``.png (160 dpi) and ``stem``.svg; no date inside, so equal data gives equal files."""
    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    with paper_style():
        figure.draw_without_rendering()  # lays the figure out, once for both files
        figure.set_layout_engine("none")
        box = figure.get_tightbbox().padded(0.06)
        figure.savefig(png, bbox_inches=box, metadata={"Software": None})
        figure.savefig(svg, bbox_inches=box, metadata={"Date": None, "Creator": None})
    return png, svg
