"""The section of the cost: the time that tuning takes, and what random search reaches with the same compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.frames import NotComputable
from analysis.plots import cost as plots_cost
from analysis.plots import style
from analysis.report.section import Drawing, Section
from analysis.report.tables import Found, Table, each, found_by_model, make_table, raw_columns
from analysis.report.text import number, word
from analysis.report.view import Drawn, StudyView
from analysis.statistics.equal_compute import EqualCompute
from analysis.statistics.overhead import Overhead, time_ratios
from analysis.statistics.records import bounded, computed_parts, to_frame
from analysis.statistics.summary import DEFINITIONS


def best_cell(views: Sequence[StudyView]) -> Table:
    """Each arm against the best fixed cell of the grid."""
    return make_table(
        found_by_model(views, lambda model: model.best_cell.values()),
        [
            ("arm", lambda r: word(r.arm)),
            ("best cell, test loss", lambda r: number(r.best)),
            ("mean − best cell", lambda r: number(r.difference)),
            ("seed noise", lambda r: number(r.margin, 2)),
            ("no worse by more than noise", lambda r: word(r.no_worse)),
            ("its mean", lambda r: word(r.mean_no_worse)),
        ],
        raw_columns,
        name="best_cell",
        title="Against the best fixed cell",
        note="Mean test loss of an arm's completed runs minus that of the best grid cell, which was chosen by its T2 "
        "loss. No worse: the upper end of the interval is at most the seed noise. Its mean: the difference is.",
        several=len(views) > 1,
    )


def overhead(views: Sequence[StudyView]) -> Table:
    """The paired time ratio by model."""
    return make_table(
        [part for view in views for part in _overheads(view)],
        [
            ("pairs", lambda r: word(r.n)),
            ("time ratio", lambda r: number(r.ratio)),
            ("median", lambda r: number(r.median_ratio)),
            ("seconds more", lambda r: number(r.extra_s)),
        ],
        lambda r: Overhead.published(r) | bounded("ratio", r.ratio),
        name="overhead",
        title="Time overhead",
        note="Training time of a T1-T2 run over that of the same configuration with fixed hyperparameters: geometric "
        "mean of the paired ratios with its bootstrap interval. The slides: 1.12 (2 s).",
        several=len(views) > 1,
    )


def _overheads(view: StudyView) -> Iterator[Found[Overhead]]:
    for row in each(view.summary.overhead):
        model = None if isinstance(row, NotComputable) else row.model
        yield Found(study=view.study.name, model=model, row=row)


def equal_compute(views: Sequence[StudyView]) -> Table:
    """T1-T2 against random search of the same compute."""
    return make_table(
        found_by_model(views, lambda model: each(model.equal_compute.at_equal_compute)),
        [
            ("method", lambda r: word(r.method)),
            ("cost in trainings", lambda r: number(r.cost)),
            ("its test loss", lambda r: number(r.expected)),
            ("random search of that cost", lambda r: number(r.random)),
            ("difference", lambda r: number(r.difference)),
            ("n", lambda r: word(r.n)),
        ],
        lambda r: EqualCompute.published(r) | bounded("difference", r.difference),
        name="equal_compute",
        title="At equal compute",
        note=f"{DEFINITIONS.compute} Random search draws as many of the study's initial configurations as the method "
        "costs, keeps them fixed, and chooses the one with the lowest T2 loss; its expected test loss is compared. "
        "Below 0, T1-T2 wins.",
        several=len(views) > 1,
    )


def draw_overhead(view: StudyView) -> Drawn | NotComputable:
    """The paired time ratios of online over initial, by model."""
    found = view.summary.overhead
    if isinstance(found, NotComputable):
        return found
    count = max(1, sum(row.model != "all" for row in found))
    figure, axes = style.panels(1, 7.2, 1.5 + 0.62 * count)
    plots_cost.overhead_plot(axes[0], time_ratios(view.study.runs), to_frame(found))
    return figure, (
        "Training time of each T1-T2 run over that of the same configuration with fixed hyperparameters "
        "(dots); diamond: geometric mean of the paired ratios with its 95 % bootstrap interval. Dashed: "
        "the slides' 12 %. Times are those of the workers, which may have shared a machine; runs trained in "
        "one pack share its time equally, so their dots coincide."
    )


def draw_compute(view: StudyView) -> Drawn | NotComputable:
    """The expected best test loss over compute, a panel for each model."""
    curves = computed_parts({model: parts.equal_compute.curve for model, parts in view.summary.models.items()})
    if isinstance(curves, NotComputable):
        return curves
    figure, axes = style.panels(len(curves), height=3.9)
    for ax, (model, curve) in zip(axes, curves.items(), strict=True):
        plots_cost.expected_best_plot(ax, curve)
        ax.set_title(model, pad=22)
    return figure, (
        "The expected test loss of the run that one would choose by its T2 loss, over the compute spent, "
        "in trainings with fixed hyperparameters: random search draws that many initial configurations, "
        f"the others pay what their arms cost. Bands: 95 % bootstrap intervals.{view.starts}"
    )


SECTION = Section(
    key="cost",
    title="What does it cost, and is it worth it?",
    claim="“The training time has increased by 2s (12%).”",
    drawings=(
        Drawing(stem="overhead", title="Time overhead", draw=draw_overhead),
        Drawing(stem="equal_compute", title="Expected best over compute", draw=draw_compute),
    ),
    tables=(best_cell, overhead, equal_compute),
)
