"""The section of the optimal region: how many runs start and end in it, and how they get there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from matplotlib.lines import Line2D

from analysis.frames import NotComputable, thinned
from analysis.plots import region as plots_region
from analysis.plots import steps as plots_steps
from analysis.plots import style
from analysis.report.section import Drawing, Section
from analysis.report.sections import contraction
from analysis.report.tables import Raw, Table, found_by_model, make_table
from analysis.report.text import number, p_value, share, word
from analysis.report.view import MOST_DRAWN, Drawn, StudyView
from analysis.statistics.records import bounded, computed, computed_parts
from analysis.statistics.region import Region
from analysis.statistics.region_shares import RegionShares, concentration
from analysis.statistics.summary import DECISIVE, DEFINITIONS, ModelSummary


@dataclass(frozen=True, kw_only=True)
class RegionRow:
    """A region by one metric, or by one way of finding it, and the shares of the runs in it; None where unknown."""

    metric: str
    region: Region
    shares: RegionShares | None

    def raw(self) -> Raw:
        """The columns of the CSV file, without those of what could not be computed."""
        region, s = self.region, self.shares
        columns = {
            "metric": self.metric,
            "best_value": region.best_value,
            "standard_error": region.standard_error,
            "seed_noise": region.seed_noise,
            "threshold": region.threshold,
            "volume": region.volume,
            "discriminates": region.discriminates,
        }
        if s is None:
            return columns
        columns |= {"n": s.n} | bounded("start_share", s.start) | bounded("end_share", s.end)
        columns |= bounded("end_to_volume", s.end_to_volume)
        return columns | {"entered": s.entered, "left": s.left, "p_value": s.p_value}


def regions(views: Sequence[StudyView]) -> Table:
    """The optimal region by each metric, and how many runs start and end in it."""
    return make_table(
        found_by_model(views, _rows),
        [
            ("metric", lambda r: word(r.metric)),
            ("best cell", lambda r: number(r.region.best_value)),
            ("seed noise", lambda r: number(r.region.seed_noise, 2)),
            ("threshold", lambda r: number(r.region.threshold)),
            ("region / box", lambda r: share(r.region.volume)),
            ("start inside", lambda r: share(r.shares.start if r.shares else None)),
            ("end inside", lambda r: share(r.shares.end if r.shares else None)),
            ("ends / chance", lambda r: number(r.shares.end_to_volume if r.shares else None, 2)),
            ("entered", lambda r: word(r.shares.entered if r.shares else None)),
            ("left", lambda r: word(r.shares.left if r.shares else None)),
            ("p", lambda r: p_value(r.shares.p_value if r.shares else None)),
        ],
        RegionRow.raw,
        name="region",
        title="Optimal region",
        note=f"{DEFINITIONS.region} {DEFINITIONS.region_metric} {DEFINITIONS.discriminates} Ends / chance: the share "
        "of ends inside over the region's share of the box. p: McNemar's exact test of entering against leaving.",
        several=len(views) > 1,
    )


def _rows(parts: ModelSummary) -> Iterator[RegionRow | NotComputable]:
    versions = {style.metric_label(metric): found for metric, found in parts.region.items()}
    versions["T2 loss, from the surface's minimum"] = parts.region_from_surface_minimum
    for metric, found in versions.items():
        if isinstance(found, NotComputable):
            yield found
            continue
        if isinstance(found.shares, NotComputable):
            yield found.shares
        yield RegionRow(metric=metric, region=found.region, shares=computed(found.shares))


def draw_convergence(view: StudyView) -> Drawn | NotComputable:
    """Starts, trajectories and ends over the response surface, a panel for each model and pair of hyperparameters."""
    models = [m for m in view.study.models if len(view.all_online(m)) or m in view.found]
    if not models:
        return NotComputable("no online run and no grid")
    if not view.study.boxes:
        return NotComputable("no hyperparameter varies between the runs")
    several: Sequence[tuple[str, ...]] = list(combinations(list(view.study.boxes)[:3], 2)) or [tuple(view.study.boxes)]
    figure, axes = style.panels(len(models) * len(several))
    captions = [f"Where the T1-T2 runs start, walk and end.{view.starts}"]
    for ax, (model, names) in zip(axes, ((m, n) for m in models for n in several), strict=True):
        online = thinned(view.online(model), MOST_DRAWN)
        paths = view.paths(model, MOST_DRAWN)
        plots_region.region_convergence(ax, online, paths, view.study.boxes, region=view.found.get(model), names=names)
        ax.set_title(model)
    captions += [_region_words(view, model) for model in models]
    if view.found:
        captions.append(next(iter(view.found.values())).definition)
        captions.append(
            "Colour: the smoothed T2 loss of the grid runs"
            + (", at the optimum of the hyperparameters that are not shown." if len(view.study.boxes) > 2 else ".")
        )
    keys = plots_region.region_legend(len(several[0]), bool(view.found), not view.trajectories.empty)
    figure.legend(handles=keys, loc="outside lower center", ncols=7 if len(axes) > 1 else 3)
    return figure, " ".join(captions)


def _region_words(view: StudyView, model: str) -> str:
    found, total = view.summary.models[model].region[DECISIVE], len(view.all_online(model))
    sampled = f" ({MOST_DRAWN} of its {total} runs drawn, evenly spaced over the plan)" if total > MOST_DRAWN else ""
    if isinstance(found, NotComputable):
        return f"{model}{sampled}: no region ({found.reason})."
    region, shares = found.region, found.shares
    words = (
        f"{model}{sampled}: T2 loss at most {region.threshold:.4g} = {region.best_value:.4g} (best cell) + "
        f"{region.standard_error:.2g} (its standard error) + {region.seed_noise:.2g} (seed noise), "
        f"{style.percent(region.volume)} of the box"
    )
    if isinstance(shares, NotComputable):
        return words + "."
    return words + f"; inside at the start {share(shares.start)}, at the end {share(shares.end)} of {shares.n} runs."


def draw_ends(view: StudyView) -> Drawn | NotComputable:
    """The share inside and the distance over the steps, and how the ends concentrate in the best part of the box."""
    found = computed_parts(view.regions)
    if isinstance(found, NotComputable):
        return found
    distances = computed_parts({model: view.summary.models[model].distance for model in found})
    if isinstance(distances, NotComputable):
        return NotComputable("no recorded steps of online runs")
    figure, axes = style.panels(3, 3.6, 3.7, columns=3)
    plots_steps.share_inside_over_steps(axes[0], distances, {m: r.volume for m, r in found.items()})
    plots_steps.distance_over_steps(axes[1], distances)
    plots_steps.concentration_curve(axes[2], {m: concentration(view.study.runs, found[m]) for m in distances})
    handles, labels = axes[0].get_legend_handles_labels()
    chance = Line2D([], [], color=style.GREY, linestyle=":")
    figure.legend([*handles, chance], [*labels, "chance"], loc="outside lower center", ncols=6)
    return figure, (
        "Left: the share of the T1-T2 runs whose hyperparameters are inside the optimal region; dotted, the region's "
        "share of the box, which is what values drawn uniformly from the box would give. Middle: the median distance "
        "to the region with the middle half of the runs; the box has sides of length 1. Right: the share of the starts "
        "(thin) and of the ends (thick) that lie in the best part of the box, for every size of that part: needs no "
        "threshold. Runs that diverged are counted as outside on the right, and up to the step they reached elsewhere."
    )


SECTION = Section(
    key="region",
    title="Do the runs end in one optimal region?",
    claim="“Training the model multiple times, with different initial configurations, it's possible to see how the "
    "algorithm tunes the HPs into the same optimal region.”",
    drawings=(
        Drawing(stem="region_convergence", title="Region convergence", draw=draw_convergence),
        Drawing(stem="ends", title="Into the region", draw=draw_ends),
        *contraction.DRAWINGS,
    ),
    tables=(regions, *contraction.TABLES),
)
