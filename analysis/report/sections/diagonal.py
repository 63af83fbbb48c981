"""The section of the diagonal: whether training again with the values that T1-T2 found changes the loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from analysis.frames import NotComputable, pairs
from analysis.plots import split as plots_split
from analysis.plots import style
from analysis.report.section import Drawing, Section
from analysis.report.tables import Table, found_by_model, make_table, raw_columns
from analysis.report.text import number, p_value, word
from analysis.report.view import Drawn, StudyView
from analysis.statistics.diagonal import Diagonal, bland_altman
from analysis.statistics.summary import DEFINITIONS, PAIRS, Pair


def diagonal(views: Sequence[StudyView]) -> Table:
    """Paired differences between arms."""
    return make_table(
        found_by_model(views, lambda m: (found for by_metric in m.diagonal.values() for found in by_metric.values())),
        [
            ("pair", _pair),
            ("metric", lambda r: style.metric_label(r.metric)),
            ("n", lambda r: word(r.n)),
            ("mean difference", lambda r: number(r.mean_difference)),
            ("median", lambda r: number(r.median_difference, 2)),
            ("lower / tied / higher", lambda r: f"{r.better} / {r.tied} / {r.worse}"),
            ("margin", lambda r: number(r.margin, 2)),
            ("equivalent", lambda r: word(r.equivalent)),
            ("p", lambda r: p_value(r.tost_p)),
            ("concordance", lambda r: number(r.concordance, 2)),
        ],
        lambda r: raw_columns(r, pair=_pair(r), metric=style.metric_label(r.metric)),
        name="diagonal",
        title="Paired differences",
        note=f"{DEFINITIONS.equivalence} Margin: that seed noise; a difference within it is a tie. p: of the two "
        "one-sided tests. Concordance: Lin's coefficient. Configurations in which either run diverged are left out.",
        several=len(views) > 1,
    )


def _pair(row: Diagonal) -> str:
    return f"{row.second} − {row.first}"


def draw_diagonal(pair: Pair, view: StudyView) -> Drawn | NotComputable:
    """The diagonal and the Bland-Altman picture of two arms by test loss, a row for each model."""
    first, second = PAIRS[pair]
    models = view.models_with(first, second)
    if isinstance(models, NotComputable):
        return models
    found = {model: view.summary.models[model].diagonal[pair]["test_loss"] for model in models}
    results = {model: result for model, result in found.items() if isinstance(result, Diagonal)}
    if not results:
        return next(result for result in reversed(found.values()) if isinstance(result, NotComputable))
    figure, axes = style.panels(2 * len(results), 4.6, 4.2)
    words = []
    for place, (model, result) in enumerate(results.items()):
        left, right = axes[2 * place : 2 * place + 2]
        left.set_title(model, pad=22)
        both = pairs(view.study.runs, first, second, model)
        plots_split.diagonal_scatter(left, both, first, second, margin=result.margin)
        differences = bland_altman(view.study.runs, first, second, metric="test_loss", model=model)
        plots_split.bland_altman_plot(right, differences, result, first=first, second=second)
        words.append(
            f"{model}: mean difference {number(result.mean_difference)} over {result.n} configurations, "
            f"{result.better} lower, {result.tied} within the margin, {result.worse} higher"
            + ("." if result.margin is None else f"; margin {result.margin:.2g}.")
        )
    return figure, (
        f"Left: the test loss of {second} over that of {first}, configuration by configuration. Right "
        f"(Bland-Altman): {second} minus {first} over their mean; blue, the mean difference with its "
        "95 % bootstrap interval; dashed, the mean ± 1.96 standard deviations. Grey: the margin, which "
        "is the seed noise (the standard deviation between seeds of one grid run's test loss). " + " ".join(words)
    )


SECTION = Section(
    key="diagonal",
    title="Is retraining needed?",
    claim="“The performances lie always close to the main diagonal […] training again the model with the optimized "
    "configuration is not required.”",
    drawings=(
        Drawing(stem="diagonal", title="T1-T2 run against retraining", draw=partial(draw_diagonal, "online_rerun")),
        Drawing(
            stem="diagonal_initial",
            title="Initial hyperparameters against retraining",
            draw=partial(draw_diagonal, "initial_rerun"),
        ),
    ),
    tables=(diagonal,),
)
