"""The section of the models: whether their optimal regions differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from analysis.frames import NotComputable
from analysis.plots import region as plots_region
from analysis.plots import style
from analysis.report.section import Drawing, Section
from analysis.report.tables import Columns, Found, Table, each, make_table
from analysis.report.text import number, p_value
from analysis.report.view import Drawn, StudyView
from analysis.statistics.model_sizes import ModelPair
from analysis.statistics.records import computed


def model_sizes(views: Sequence[StudyView]) -> Table:
    """Whether the optimal regions differ between models."""
    pairs = [pair for view in views for pair in computed(view.summary.model_sizes) or ()]
    columns: Columns[ModelPair] = [
        ("models", lambda r: f"{r.first}, {r.second}"),
        ("overlap", lambda r: number(r.jaccard, 2)),
        ("p", lambda r: p_value(r.p_region)),
        ("optimum's shift", lambda r: number(r.shift, 2)),
        ("p", lambda r: p_value(r.p_shift)),
        ("surface differs, p", lambda r: p_value(r.p_shape)),
        *(_end_shift(name) for name in dict.fromkeys(name for pair in pairs for name in pair.end_shifts)),
    ]
    return make_table(
        [Found(study=view.study.name, row=row) for view in views for row in each(view.summary.model_sizes)],
        columns,
        ModelPair.published,
        name="model_sizes",
        title="Regions by model",
        note="Overlap: volume of the regions' intersection over that of their union. Shifts (second − first) in box "
        "units; ends' shift is the paired difference of where the runs from one start end. p: permutation tests of "
        "no difference between the models but their level, adjusted over the pairs by Holm's method.",
        several=len(views) > 1,
    )


def _end_shift(name: str) -> tuple[str, Callable[[ModelPair], str]]:
    return f"ends' shift, {style.hyperparameter_label(name)}", lambda r: number(r.end_shifts.get(name), 2)


def draw_regions(view: StudyView) -> Drawn | NotComputable:
    """The optimal regions of all models over one another."""
    if len(view.found) < 2:
        return NotComputable(f"{len(view.found)} of the models has a region: a comparison needs two")
    if len(view.study.boxes) < 2:
        return NotComputable("one hyperparameter: regions are outlined over two")
    figure, axes = style.panels(1, 5.6, 4.8)
    plots_region.region_outlines(axes[0], view.found, view.study.boxes)
    return figure, (
        "The optimal region of each model (T2 loss, same definition) and the minimum of its surface. The "
        "outlines carry the noise of the grid: the table says whether they differ by more than that."
    )


SECTION = Section(
    key="models",
    title="Do the regions differ by model size?",
    claim="“Different model sizes have slightly different optimal regions.”",
    drawings=(Drawing(stem="model_regions", title="Regions by model", draw=draw_regions),),
    tables=(model_sizes,),
)
