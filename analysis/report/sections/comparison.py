"""Several studies side by side: one table and one picture, before the sections on each."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.plots import cost as plots_cost
from analysis.plots import style
from analysis.report.tables import Columns, Table
from analysis.report.text import number, share, word
from analysis.report.view import Drawn
from analysis.statistics.comparison import StudyComparison
from analysis.statistics.records import to_frame, to_plain

COLUMNS: Columns[StudyComparison] = [
    ("study", lambda r: word(r.study)),
    ("estimator", lambda r: word(r.estimator)),
    ("model", lambda r: word(r.model)),
    ("runs", lambda r: word(r.n)),
    ("diverged", lambda r: word(r.diverged)),
    ("region / box", lambda r: share(r.volume)),
    ("region from", lambda r: word(r.reference)),
    ("start inside", lambda r: share(r.start_share)),
    ("end inside", lambda r: share(r.end_share)),
    ("T1-T2, test loss", lambda r: number(r.online_test_loss)),
    ("rerun, test loss", lambda r: number(r.rerun_test_loss)),
    ("best cell", lambda r: number(r.best_cell_test_loss)),
    ("time / fixed", lambda r: number(r.cost)),
]


def comparison(rows: Sequence[StudyComparison]) -> Table:
    """Studies side by side, for example one for each estimator."""
    return Table(
        name="comparison",
        title="Studies side by side",
        note="Mean test losses of the completed runs and geometric means of paired time ratios, with 95 % intervals. A "
        "study without a grid is judged by the region of the first study that has one for the same problem.",
        headers=[header for header, _ in COLUMNS],
        cells=[[cell(row) for _, cell in COLUMNS] for row in rows],
        rows=to_plain(rows),
        gaps=list(dict.fromkeys(f"{r.study} · {r.model}: {r.reason}" for r in rows if r.reason)),
    )


def draw_comparison(rows: Sequence[StudyComparison]) -> Drawn:
    """Shares in the region, test loss and cost of every study."""
    several = len({row.model for row in rows}) > 1
    labelled = to_frame(rows).assign(label=[f"{r.study} · {r.model}" if several else r.study for r in rows])
    figure, axes = style.panels(3, 3.9, 1.9 + 0.42 * len(rows), columns=3)
    plots_cost.comparison_region(axes[0], labelled)
    plots_cost.comparison_loss(axes[1], labelled)
    plots_cost.comparison_cost(axes[2], labelled)
    for ax in axes[1:]:
        ax.set_yticklabels([])
    return figure, (
        "Left: the share of the T1-T2 runs that start (hollow) and end (filled) in the optimal region with 95 % "
        "Wilson intervals, and the region's share of the box (bar). Middle: mean test loss with 95 % bootstrap "
        "intervals. Right: time of a T1-T2 run over that of a training with fixed hyperparameters."
    )
