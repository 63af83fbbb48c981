"""The section of the improvement split: which configurations are good before and after tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.frames import NotComputable, pairs
from analysis.plots import split as plots_split
from analysis.plots import style
from analysis.report.section import Drawing, Section
from analysis.report.tables import Raw, Table, found_by_model, make_table
from analysis.report.text import NONE, number, share, word
from analysis.report.view import Drawn, StudyView
from analysis.statistics.improvement import OUTCOMES, SLIDES_SHARES, GoodThreshold, SplitShare, slides_hold
from analysis.statistics.records import bounded, computed, to_frame
from analysis.statistics.summary import DEFINITIONS, ModelSummary


@dataclass(frozen=True, kw_only=True)
class SplitRow:
    """The split of one model's initial runs against another arm."""

    after: str
    threshold: float
    split: Sequence[SplitShare]
    fits: tuple[float, float] | None  # the margins between which the slides' shares lie in the intervals

    def raw(self) -> Raw:
        """The columns of the CSV file."""
        columns: Raw = {"after": self.after, "threshold": self.threshold}
        for part in self.split:
            columns |= {"n": part.n, f"{part.outcome}_count": part.count} | bounded(part.outcome, part.share)
        return columns | ({"slides_fit_from": self.fits[0], "slides_fit_to": self.fits[1]} if self.fits else {})


def improvement(views: Sequence[StudyView]) -> Table:
    """The four-way split at the threshold of good."""
    return make_table(
        found_by_model(views, _rows),
        [
            ("after", lambda r: word(r.after)),
            ("threshold", lambda r: number(r.threshold)),
            ("n", lambda r: word(r.split[0].n)),
            *(_outcome(place) for place in range(len(OUTCOMES))),
            ("58 / 20 fits at", _fits),
        ],
        SplitRow.raw,
        name="improvement",
        title="Improvement split",
        note=f"{DEFINITIONS.good} Initial hyperparameters against a retraining with the final ones (rerun) and against "
        "the T1-T2 run itself (online). Last column: how far above the best cell the threshold must lie for the "
        f"slides' 58 % and 20 % to be inside the intervals together; “{NONE}” where it nowhere is.",
        several=len(views) > 1,
    )


def _rows(parts: ModelSummary) -> Iterator[SplitRow | NotComputable]:
    for after, found in parts.improvement.items():
        if isinstance(found, NotComputable):
            yield found
        elif isinstance(found.split, NotComputable):
            yield found.split
        else:
            fits = computed(found.margins_at_which_the_slides_shares_hold)
            yield SplitRow(after=after, threshold=found.threshold.value, split=found.split, fits=fits)


def _outcome(place: int) -> tuple[str, Callable[[SplitRow], str]]:
    """The column of one of the outcomes, in whose order the split is."""
    return OUTCOMES[place].replace("→", " → "), lambda r: share(r.split[place].share)


def _fits(row: SplitRow) -> str:
    if row.fits is None:
        return NONE
    low, high = (style.percent(margin) for margin in row.fits)
    return f"+{low}" if low == high else f"+{low} to +{high}"


def draw_split(view: StudyView) -> Drawn | NotComputable:
    """Retrained against initial T2 loss, split at the threshold of good."""
    models = view.models_with("initial", "rerun")
    if isinstance(models, NotComputable):
        return models
    good: dict[str, GoodThreshold] = {}
    splits: dict[str, pd.DataFrame] = {}
    for model in models:
        found = view.summary.models[model].improvement["rerun"]
        if isinstance(found, NotComputable):
            continue
        if isinstance(found.split, NotComputable):
            return found.split
        good[model], splits[model] = found.threshold, to_frame(found.split)
    if not good:
        return NotComputable("no threshold of good without a grid: it is taken from the best grid cell")
    figure, axes = style.panels(len(good), 4.4, 5.4)
    for ax, (model, threshold) in zip(axes, good.items(), strict=True):
        both = pairs(view.study.runs, "initial", "rerun", model)
        plots_split.split_scatter(ax, both, threshold.value, splits[model])
        ax.set_title(model, pad=48)
    definition = next(iter(good.values())).definition
    words = [f"{model}: {g.value:.4g} = {g.best:.4g} + {g.margin:.2g}." for model, g in good.items()]
    return figure, (
        "Each configuration trained with its initial hyperparameters and again with those that T1-T2 "
        f"found. {definition[0].upper()}{definition[1:]}. Threshold of each model: "
        f"{' '.join(words)} Dotted: the diagonal. A run that diverged is bad and stands on the edge."
    )


def draw_split_curves(view: StudyView) -> Drawn | NotComputable:
    """The split over the threshold, with the slides' 58 % and 20 %."""
    models = view.models_with("initial", "rerun")
    if isinstance(models, NotComputable):
        return models
    figure, axes = style.panels(len(models), height=4.2)
    words = []
    for ax, model in zip(axes, models, strict=True):
        parts = view.summary.models[model]
        curve, good = parts.split_curves["rerun"], parts.improvement["rerun"]
        if isinstance(curve, NotComputable):
            return curve
        holds = slides_hold(curve)
        margin = None if isinstance(good, NotComputable) else good.threshold.margin / good.threshold.best
        plots_split.split_curve_plot(ax, curve, margin, SLIDES_SHARES, holds)
        ax.set_title(model, pad=36)
        words.append(f"{model}: they fit together at {_where(holds)}.")
    return figure, (
        "The shares of configurations that are good before and after, for every threshold of good; bands: "
        "95 % Wilson intervals. The slides give no threshold for their 58 % (good → good) and 20 % (bad → "
        f"good); where both lie in the intervals the background is yellow. {' '.join(words)}"
    )


def _where(holds: pd.DataFrame) -> str:
    if holds.empty:
        return "no threshold"
    column = holds["margin" if holds["margin"].notna().all() else "threshold"]
    if column.name == "margin" and len(column) == 1:
        return f"the threshold {100 * column.min():.0f} % above the best cell alone"
    if column.name == "margin":
        return f"thresholds from {100 * column.min():.0f} % to {100 * column.max():.0f} % above the best cell"
    return f"thresholds from {column.min():.3g} to {column.max():.3g}"


SECTION = Section(
    key="improvement",
    title="How many configurations does it improve?",
    claim="“58 % of the runs achieve good performances whether with the initial configuration or the optimized one. "
    "20 % of the runs improve their performances drastically thanks to the algorithm.”",
    drawings=(
        Drawing(stem="split", title="Improvement split", draw=draw_split),
        Drawing(stem="split_curve", title="The split over the threshold", draw=draw_split_curves),
    ),
    tables=(improvement,),
)
