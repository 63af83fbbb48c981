"""The report's tables, each from the dictionaries that :func:`analysis.summarise` returns for its studies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from analysis.plots import style
from analysis.report.tables import Cell, Collector, Row, Table, number, p_value, share, word

SEED_CLAIMS: Row = {  # what the seed's slides report; they give no thresholds and no intervals
    "study": "the seed's slides",
    "model": "–",
    "end_share": "the same optimal region",
    "good→good": 0.58,
    "bad→good": 0.20,
    "difference": "close to the diagonal",
    "ratio": 1.12,
}


def all_tables(summaries: Sequence[Row], comparison: Sequence[Row] | None = None) -> list[Table]:
    """Every table of a report on ``summaries``; ``comparison`` holds the rows of several studies side by side."""
    tables = [build(summaries) for build in BUILDERS]
    return tables + ([comparison_table(comparison)] if comparison else [])


def claims(summaries: Sequence[Row]) -> Table:
    """The seed's claims and this report's figures: one row for each study and model."""
    found = Collector(len(summaries) > 1)
    for study, model, parts in _models(summaries):
        row = found.place(study, model)
        region, split = parts["region"]["t2_loss"], parts["improvement"]["rerun"]
        pair = parts["diagonal"]["online_rerun"]["test_loss"]
        if found.known(region, study, model):
            row["volume"] = region["volume"]
            if found.known(region["shares"], study, model):
                row |= (
                    {"n": region["shares"]["n"]}
                    | _flat("start_share", region["shares"]["start"])
                    | _flat("end_share", region["shares"]["end"])
                )
        if found.known(split, study, model) and found.known(split["split"], study, model):
            for part in split["split"]:
                row |= {
                    part["outcome"]: part["share"],
                    f"{part['outcome']}_low": part["low"],
                    f"{part['outcome']}_high": part["high"],
                }
        if found.known(pair, study, model):
            row |= _flat("difference", pair["mean_difference"]) | {
                "margin": pair["margin"],
                "equivalent": pair["equivalent"],
            }
        if found.known(study["overhead"], study):
            row |= next(
                (
                    {"ratio": t["ratio"], "ratio_low": t["low"], "ratio_high": t["high"]}
                    for t in study["overhead"]
                    if t["model"] == model
                ),
                {},
            )
        found.rows.append(row)
    definitions = summaries[0]["definitions"] if summaries else {}
    columns: list[tuple[str, Cell]] = [
        ("study", word("study")),
        ("model", word("model")),
        ("region / box", share("volume")),
        ("start inside", share("start_share")),
        ("end inside", _words_or(share("end_share"), "end_share")),
        ("good → good", share("good→good")),
        ("bad → good", share("bad→good")),
        ("rerun − online, test loss", _words_or(number("difference"), "difference")),
        ("equivalent", word("equivalent")),
        ("time ratio", number("ratio")),
    ]
    note = "\n".join(
        [
            f"Region: {definitions.get('region', '')}",
            "Start and end inside: the share of the T1-T2 runs; a run that diverged ends outside.",
            f"Good: {definitions.get('good', '')} The arrow leads from the initial hyperparameters to a retraining "
            "with those that T1-T2 found.",
            f"Equivalent: {definitions.get('equivalence', '')}",
            "Time ratio: T1-T2 run over the same training with fixed hyperparameters, geometric mean of the pairs.",
            f"Intervals: {definitions.get('intervals', '')} The seed's slides give no thresholds and no intervals.",
        ]
    )
    rows = [SEED_CLAIMS, *found.rows] if found.rows else []
    return Table("claims", "claims", "The claims", note, rows, columns, tuple(found.gaps))


def region(summaries: Sequence[Row]) -> Table:
    """The optimal region by each metric, and how many runs start and end in it."""
    found = Collector(len(summaries) > 1)
    for study, model, parts in _models(summaries):
        versions = {style.metric_label(m): r for m, r in parts["region"].items()}
        if "region_from_surface_minimum" in parts:
            versions["T2 loss, from the surface's minimum"] = parts["region_from_surface_minimum"]
        for metric, r in versions.items():
            if not found.known(r, study, model):
                continue
            row = (
                found.place(study, model)
                | {"metric": metric}
                | {
                    k: r[k]
                    for k in ("best_value", "standard_error", "seed_noise", "threshold", "volume", "discriminates")
                }
            )
            if found.known(r["shares"], study, model):
                s = r["shares"]
                row |= (
                    {"n": s["n"]}
                    | _flat("start_share", s["start"])
                    | _flat("end_share", s["end"])
                    | _flat("end_to_volume", s["end_to_volume"])
                    | {k: s[k] for k in ("entered", "left", "p_value")}
                )
            found.rows.append(row)
    columns = [
        *_named(summaries),
        ("metric", word("metric")),
        ("best cell", number("best_value")),
        ("seed noise", number("seed_noise", 2)),
        ("threshold", number("threshold")),
        ("region / box", share("volume")),
        ("start inside", share("start_share")),
        ("end inside", share("end_share")),
        ("ends / chance", number("end_to_volume", 2)),
        ("entered", word("entered")),
        ("left", word("left")),
        ("p", p_value("p_value")),
    ]
    note = (
        f"{_definition(summaries, 'region')} {_definition(summaries, 'region_metric')} "
        f"{_definition(summaries, 'discriminates')} Ends / chance: the share of ends inside over the region's "
        "share of the box. p: McNemar's exact test of entering against leaving."
    )
    return Table("region", "region", "Optimal region", note, found.rows, columns, tuple(found.gaps))


def contraction(summaries: Sequence[Row]) -> Table:
    """How the spread shrinks from start to end."""
    rows, gaps = _records(summaries, lambda parts: parts["contraction"])
    columns = [
        *_named(summaries),
        ("along", _along),
        ("std of starts", number("start_std", 2)),
        ("std of ends", number("end_std", 2)),
        ("ends / starts", number("std_ratio", 2)),
        ("by quartiles", number("iqr_ratio", 2)),
        ("n", word("n")),
    ]
    note = (
        "Spread of the completed T1-T2 runs in box units; ends / starts is 1 where nothing contracts. Directions "
        "are the principal ones of the response surface, 1 the most sensitive. By quartiles: the same for "
        "interquartile ranges."
    )
    return Table("region", "contraction", "Contraction", note, rows, columns, gaps)


def clamps(summaries: Sequence[Row]) -> Table:
    """Runs that end with a hyperparameter at a bound of its box."""
    rows, gaps = _records(summaries, lambda parts: parts["clamped"])
    rows = [r | {"share_low": r["low"], "share_high": r["high"]} for r in rows]
    columns = [
        *_named(summaries),
        ("hyperparameter", word("hyperparameter")),
        ("bound", number("bound")),
        ("runs", lambda r: f"{r['count']} of {r['n']}"),
        ("share", share("share")),
        ("of these outside the region", word("outside_region")),
    ]
    note = (
        "Completed T1-T2 runs whose hyperparameter ends at a bound of its box. A bound inside the region is no failure."
    )
    return Table("region", "clamps", "Stuck at a clamp", note, rows, columns, gaps)


def improvement(summaries: Sequence[Row]) -> Table:
    """The four-way split at the threshold of good."""
    found = Collector(len(summaries) > 1)
    for study, model, parts in _models(summaries):
        for after, part in parts["improvement"].items():
            if not (found.known(part, study, model) and found.known(part["split"], study, model)):
                continue
            row = found.place(study, model) | {"after": after, "threshold": part["threshold"]["value"]}
            for r in part["split"]:
                row |= {
                    "n": r["n"],
                    f"{r['outcome']}_count": r["count"],
                    r["outcome"]: r["share"],
                    f"{r['outcome']}_low": r["low"],
                    f"{r['outcome']}_high": r["high"],
                }
            margins = part.get("margins_at_which_the_seeds_shares_hold")
            if isinstance(margins, list):
                row |= {"seed_fits_from": margins[0], "seed_fits_to": margins[1]}
            found.rows.append(row)
    columns = [
        *_named(summaries),
        ("after", word("after")),
        ("threshold", number("threshold")),
        ("n", word("n")),
        *((o.replace("→", " → "), share(o)) for o in ("good→good", "bad→good", "bad→bad", "good→bad")),
        ("58 / 20 fits at", _fits),
    ]
    note = (
        f"{_definition(summaries, 'good')} Initial hyperparameters against a retraining with the final ones "
        "(rerun) and against the T1-T2 run itself (online). Last column: how far above the best cell the threshold "
        "must lie for the seed's 58 % and 20 % to be inside the intervals together; “–” where it nowhere is."
    )
    return Table("improvement", "improvement", "Improvement split", note, found.rows, columns, tuple(found.gaps))


def diagonal(summaries: Sequence[Row]) -> Table:
    """Paired differences between arms."""
    found = Collector(len(summaries) > 1)
    for study, model, parts in _models(summaries):
        for metrics in parts["diagonal"].values():
            for part in metrics.values():
                if found.known(part, study, model):
                    found.rows.append(
                        found.place(study, model)
                        | {k: v for k, v in part.items() if not isinstance(v, Mapping | list)}
                        | {"pair": f"{part['second']} − {part['first']}", "metric": style.metric_label(part["metric"])}
                        | _flat("mean_difference", part["mean_difference"])
                        | _flat("median_difference", part["median_difference"])
                        | _flat("concordance", part["concordance"])
                    )
    columns = [
        *_named(summaries),
        ("pair", word("pair")),
        ("metric", word("metric")),
        ("n", word("n")),
        ("mean difference", number("mean_difference")),
        ("median", number("median_difference", 2)),
        ("lower / tied / higher", lambda r: f"{r['better']} / {r['tied']} / {r['worse']}"),
        ("margin", number("margin", 2)),
        ("equivalent", word("equivalent")),
        ("p", p_value("tost_p")),
        ("concordance", number("concordance", 2)),
    ]
    note = (
        f"{_definition(summaries, 'equivalence')} Margin: that seed noise; a difference within it is a tie. p: of "
        "the two one-sided tests. Concordance: Lin's coefficient. Configurations in which either run diverged are "
        "left out."
    )
    return Table("diagonal", "diagonal", "Paired differences", note, found.rows, columns, tuple(found.gaps))


def best_cell(summaries: Sequence[Row]) -> Table:
    """Each arm against the best fixed cell of the grid."""
    found = Collector(len(summaries) > 1)
    for study, model, parts in _models(summaries):
        for arm, part in parts["best_cell"].items():
            if found.known(part, study, model):
                found.rows.append(
                    found.place(study, model)
                    | {k: v for k, v in part.items() if k != "difference"}
                    | {"arm": arm}
                    | _flat("difference", part["difference"])
                )
    columns = [
        *_named(summaries),
        ("arm", word("arm")),
        ("best cell, test loss", number("best")),
        ("mean − best cell", number("difference")),
        ("seed noise", number("margin", 2)),
        ("no worse by more than noise", word("no_worse")),
        ("its mean", word("mean_no_worse")),
    ]
    note = (
        "Mean test loss of an arm's completed runs minus that of the best grid cell, which was chosen by its T2 "
        "loss. No worse: the upper end of the interval is at most the seed noise. Its mean: the difference is."
    )
    return Table("cost", "best_cell", "Against the best fixed cell", note, found.rows, columns, tuple(found.gaps))


def overhead(summaries: Sequence[Row]) -> Table:
    """The paired time ratio by model."""
    found = Collector(len(summaries) > 1)
    for study in summaries:
        if found.known(study["overhead"], study):
            found.rows += [
                found.place(study) | r | {"ratio_low": r["low"], "ratio_high": r["high"]} for r in study["overhead"]
            ]
    columns = [
        *_named(summaries),
        ("pairs", word("n")),
        ("time ratio", number("ratio")),
        ("median", number("median_ratio")),
        ("seconds more", number("extra_s")),
    ]
    note = (
        "Training time of a T1-T2 run over that of the same configuration with fixed hyperparameters: geometric "
        "mean of the paired ratios with its bootstrap interval. The seed: 1.12 (2 s)."
    )
    return Table("cost", "overhead", "Time overhead", note, found.rows, columns, tuple(found.gaps))


def equal_compute(summaries: Sequence[Row]) -> Table:
    """T1-T2 against random search of the same compute."""
    rows, gaps = _records(summaries, lambda parts: parts["equal_compute"]["at_equal_compute"])
    rows = [r | {"difference_low": r["low"], "difference_high": r["high"]} for r in rows]
    columns = [
        *_named(summaries),
        ("method", word("method")),
        ("cost in trainings", number("cost")),
        ("its test loss", number("expected")),
        ("random search of that cost", number("random")),
        ("difference", number("difference")),
        ("n", word("n")),
    ]
    note = (
        f"{_definition(summaries, 'compute')} Random search draws as many fixed configurations as the method costs "
        "and keeps the one with the lowest T2 loss; its expected test loss is compared. Below 0, T1-T2 wins."
    )
    return Table("cost", "equal_compute", "At equal compute", note, rows, columns, gaps)


def model_sizes(summaries: Sequence[Row]) -> Table:
    """Whether the optimal regions differ between models."""
    found = Collector(len(summaries) > 1)
    for study in summaries:
        if found.known(study["model_sizes"], study):
            found.rows += [found.place(study) | r for r in study["model_sizes"]]
    names = dict.fromkeys(
        k.removeprefix("end_shift_")
        for r in found.rows
        for k in r
        if k.startswith("end_shift_") and not k.endswith(("_low", "_high"))
    )
    columns: list[tuple[str, Cell]] = [
        *_named(summaries)[:-1],
        ("models", lambda r: f"{r['first']}, {r['second']}"),
        ("overlap", number("jaccard", 2)),
        ("p", p_value("p_region")),
        ("optimum's shift", number("shift", 2)),
        ("p", p_value("p_shift")),
        ("surface differs, p", p_value("p_shape")),
    ]
    columns += [(f"ends' shift, {style.hyperparameter_label(h)}", number(f"end_shift_{h}", 2)) for h in names]
    note = (
        "Overlap: volume of the regions' intersection over that of their union. Shifts (second − first) in box "
        "units; ends' shift is the paired difference of where the runs from one start end. p: permutation tests of "
        "no difference between the models but their level, adjusted over the pairs by Holm's method."
    )
    return Table("models", "model_sizes", "Regions by model", note, found.rows, columns, tuple(found.gaps))


def counts(summaries: Sequence[Row]) -> Table:
    """How many runs completed, diverged and failed."""
    found = Collector(len(summaries) > 1)
    for study in summaries:
        found.rows += [found.place(study) | r for r in study["counts"]]
    columns = [*_named(summaries), ("arm", word("arm")), ("status", word("status")), ("runs", word("runs"))]
    note = (
        "A diverged run ended with a non-finite loss: it is a result and counts as bad. A failed run has no result "
        "and is left out."
    )
    return Table("runs", "runs", "Runs", note, found.rows, columns, tuple(found.gaps))


def comparison_table(rows: Sequence[Row]) -> Table:
    """Studies side by side, for example one for each estimator; rows of :func:`analysis.compare_studies`."""
    columns: list[tuple[str, Cell]] = [
        ("study", word("study")),
        ("estimator", word("estimator")),
        ("model", word("model")),
        ("runs", word("n")),
        ("diverged", word("diverged")),
        ("region / box", share("volume")),
        ("region from", word("reference")),
        ("start inside", share("start_share")),
        ("end inside", share("end_share")),
        ("T1-T2, test loss", number("online_test_loss")),
        ("rerun, test loss", number("rerun_test_loss")),
        ("best cell", number("best_cell_test_loss")),
        ("time / fixed", number("cost")),
    ]
    gaps = tuple(dict.fromkeys(f"{r['study']} · {r['model']}: {r['reason']}" for r in rows if r.get("reason")))
    note = (
        "Mean test losses of the completed runs and geometric means of paired time ratios, with 95 % intervals. A "
        "study without a grid is judged by the region of the first study that has one for the same problem."
    )
    return Table("comparison", "comparison", "Studies side by side", note, list(rows), columns, gaps)


BUILDERS: tuple[Callable[[Sequence[Row]], Table], ...] = (
    claims,
    region,
    contraction,
    clamps,
    improvement,
    diagonal,
    best_cell,
    overhead,
    equal_compute,
    model_sizes,
    counts,
)


def _models(summaries: Sequence[Row]) -> Iterator[tuple[Row, str, Row]]:
    for study in summaries:
        for model, parts in study["models"].items():
            yield study, model, parts


def _records(summaries: Sequence[Row], part: Callable[[Row], Any]) -> tuple[list[Row], tuple[str, ...]]:
    """The records of one part of every model's summary, with study and model in front."""
    found = Collector(len(summaries) > 1)
    for study, model, parts in _models(summaries):
        if found.known(part(parts), study, model):
            found.rows += [found.place(study, model) | record for record in part(parts)]
    return found.rows, tuple(found.gaps)


def _named(summaries: Sequence[Row]) -> list[tuple[str, Cell]]:
    return [*([("study", word("study"))] if len(summaries) > 1 else []), ("model", word("model"))]


def _definition(summaries: Sequence[Row], name: str) -> str:
    return str(summaries[0]["definitions"].get(name, "")) if summaries else ""


def _flat(prefix: str, estimate: Mapping[str, Any] | None) -> Row:
    estimate = estimate or {}
    return {f"{prefix}{end}": estimate.get(key) for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))}


def _words_or(cell: Cell, name: str) -> Cell:
    return lambda row: row[name] if isinstance(row.get(name), str) else cell(row)


def _along(row: Row) -> str:
    along = str(row["along"])
    return along if along.startswith("direction") else style.hyperparameter_label(along)


def _fits(row: Row) -> str:
    if row.get("seed_fits_from") is None:
        return "–"
    low, high = (style.percent(row[k]) for k in ("seed_fits_from", "seed_fits_to"))
    return f"+{low}" if low == high else f"+{low} to +{high}"
