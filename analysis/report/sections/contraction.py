"""Tables and pictures of single hyperparameters, for the region's section: trajectories, contraction and bounds."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.frames import NotComputable
from analysis.plots import cost as plots_cost
from analysis.plots import steps as plots_steps
from analysis.plots import style
from analysis.report.section import Drawing
from analysis.report.tables import Table, each, found_by_model, make_table
from analysis.report.text import number, share, word
from analysis.report.view import MOST_DRAWN, Drawn, StudyView
from analysis.statistics.contraction import Clamp, Contraction
from analysis.statistics.records import bounded, computed_parts, to_frame


def contraction(views: Sequence[StudyView]) -> Table:
    """How the spread shrinks from start to end."""
    return make_table(
        found_by_model(views, lambda model: each(model.contraction)),
        [
            ("along", _along),
            ("std of starts", lambda r: number(r.start_std, 2)),
            ("std of ends", lambda r: number(r.end_std, 2)),
            ("ends / starts", lambda r: number(r.std_ratio, 2)),
            ("by quartiles", lambda r: number(r.iqr_ratio, 2)),
            ("n", lambda r: word(r.n)),
        ],
        Contraction.published,
        name="contraction",
        title="Contraction",
        note="Spread of the completed T1-T2 runs in box units; ends / starts is 1 where nothing contracts. Directions "
        "are the principal ones of the response surface, 1 the most sensitive. By quartiles: the same for "
        "interquartile ranges.",
        several=len(views) > 1,
    )


def _along(row: Contraction) -> str:
    return row.along if row.is_direction else style.hyperparameter_label(row.along)


def clamps(views: Sequence[StudyView]) -> Table:
    """Runs that end with a hyperparameter at a bound of its box."""
    return make_table(
        found_by_model(views, lambda model: each(model.clamped)),
        [
            ("hyperparameter", lambda r: word(r.hyperparameter)),
            ("bound", lambda r: number(r.bound)),
            ("runs", lambda r: f"{r.count} of {r.n}"),
            ("share", lambda r: share(r.share)),
            ("of these outside the region", lambda r: word(r.outside_region)),
        ],
        lambda r: Clamp.published(r) | bounded("share", r.share),
        name="clamps",
        title="Stuck at a clamp",
        note="Completed T1-T2 runs whose hyperparameter ends at a bound of its box. A bound inside the region is no "
        "failure.",
        several=len(views) > 1,
    )


def draw_hyperparameters(view: StudyView) -> Drawn | NotComputable:
    """Every run's hyperparameters over the steps."""
    if view.trajectories.empty:
        return NotComputable("no recorded trajectory of an online run")
    if not view.study.boxes:
        return NotComputable("no hyperparameter varies between the runs")
    models = [m for m in view.study.models if len(view.paths(m))]
    extents = {model: region.extents() for model, region in view.found.items()}
    figure, axes = style.panels(len(models) * len(view.study.boxes), height=3.3)
    for ax, (model, name) in zip(axes, ((m, h) for m in models for h in view.study.boxes), strict=True):
        extent = extents.get(model, {}).get(name)
        paths, online = view.paths(model, MOST_DRAWN), view.online(model)
        plots_steps.hyperparameter_trajectories(ax, paths, online, name=name, box=view.study.boxes[name], region=extent)
        ax.set_title(model, pad=22)
    return figure, (
        "The hyperparameters of every T1-T2 run over the steps, coloured by the value they start from. "
        "Band: the extent of the optimal region along this hyperparameter, whatever the others are (a run "
        "in the band may still be outside). Dashed: the clamps."
        + (
            f" At most {MOST_DRAWN} runs of a model are drawn."
            if max(len(view.all_online(m)) for m in models) > MOST_DRAWN
            else ""
        )
        + (" Hyperparameters that differ by layer are shown by their mean." if view.runs is not view.study.runs else "")
    )


def draw_contraction(view: StudyView) -> Drawn | NotComputable:
    """How much nearer to each other the runs end than they start, by hyperparameter and direction."""
    found = computed_parts({model: parts.contraction for model, parts in view.summary.models.items()})
    if isinstance(found, NotComputable):
        return found
    labels = [f"{model}: {_along(row)}" for model, part in found.items() for row in part]
    rows = to_frame([row for part in found.values() for row in part]).assign(label=labels)
    figure, axes = style.panels(1, 7.2, 1.1 + 0.3 * len(rows))
    plots_cost.contraction_plot(axes[0], rows)
    return figure, (
        "The standard deviation of the hyperparameters at the end of the T1-T2 runs over that at their "
        "start, with 95 % bootstrap intervals: left of the dashed line the runs came together. Directions "
        "are the principal ones of the response surface in box units, 1 the most sensitive: where the "
        f"surface is flat, there is nothing to come together for.{view.starts}"
    )


DRAWINGS = (
    Drawing(stem="hyperparameters", title="Hyperparameters over the steps", draw=draw_hyperparameters),
    Drawing(stem="contraction", title="Contraction", draw=draw_contraction),
)
TABLES = (contraction, clamps)
