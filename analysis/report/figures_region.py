"""The report's pictures of the region and of the way there; a builder returns a figure and its caption, or why not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pandas as pd
from matplotlib.lines import Line2D

from analysis.plots import cost as plots_cost
from analysis.plots import region as plots_region
from analysis.plots import steps as plots_steps
from analysis.plots import style
from analysis.report.text import share
from analysis.report.view import Drawn, StudyView, sample
from analysis.statistics.contraction import contraction_ratios, distance_over_steps
from analysis.statistics.frames import NotComputable
from analysis.statistics.region import concentration, region_shares

MOST_DRAWN = 120  # runs drawn in one static panel


def region_convergence(view: StudyView) -> Drawn | NotComputable:
    """Starts, trajectories and ends over the response surface, a panel for each model and pair of hyperparameters."""
    models = [m for m in view.study.models if len(view.all_online(m)) or m in view.found]
    if not models:
        return NotComputable("no online run and no grid")
    if not view.boxes:
        return NotComputable("no hyperparameter varies between the runs")
    several: Sequence[tuple[str, ...]] = list(combinations(list(view.boxes)[:3], 2)) or [tuple(view.boxes)]
    figure, axes = style.panels(len(models) * len(several))
    captions = ["Where the T1-T2 runs start, walk and end."]
    for ax, (model, names) in zip(axes, ((m, n) for m in models for n in several), strict=True):
        online = sample(view.online(model), MOST_DRAWN)
        paths = view.paths(model, MOST_DRAWN)
        plots_region.region_convergence(ax, online, paths, view.boxes, view.found.get(model), names)
        ax.set_title(model)
    captions += [_region_words(view, model) for model in models]
    if view.found:
        captions.append(next(iter(view.found.values())).definition)
        captions.append(
            "Colour: the smoothed T2 loss of the grid runs"
            + (", at the optimum of the hyperparameters that are not shown." if len(view.boxes) > 2 else ".")
        )
    keys = plots_region.region_legend(len(several[0]), bool(view.found), not view.trajectories.empty)
    figure.legend(handles=keys, loc="outside lower center", ncols=7 if len(axes) > 1 else 3)
    return figure, " ".join(captions)


def _region_words(view: StudyView, model: str) -> str:
    region, total = view.regions[model], len(view.all_online(model))
    sampled = f" ({MOST_DRAWN} of its {total} runs drawn, evenly spaced over the plan)" if total > MOST_DRAWN else ""
    if isinstance(region, NotComputable):
        return f"{model}{sampled}: no region ({region.reason})."
    words = (
        f"{model}{sampled}: T2 loss at most {region.threshold:.4g} = {region.best_value:.4g} (best cell) + "
        f"{region.standard_error:.2g} (its standard error) + {region.seed_noise:.2g} (seed noise), "
        f"{style.percent(region.volume)} of the box"
    )
    shares = region_shares(view.study.runs, region)
    if isinstance(shares, NotComputable):
        return words + "."
    return words + f"; inside at the start {share(shares.start)}, at the end {share(shares.end)} of {shares.n} runs."


def ends(view: StudyView) -> Drawn | NotComputable:
    """The share inside and the distance over the steps, and how the ends concentrate in the best part of the box."""
    if not view.found:
        return next(iter(view.regions.values()), NotComputable("no run"))  # type: ignore[return-value]
    distances = {
        m: d for m, r in view.found.items() if not isinstance(d := distance_over_steps(view.study, r), NotComputable)
    }
    if not distances:
        return NotComputable("no recorded steps of online runs")
    figure, axes = style.panels(3, 3.6, 3.7, columns=3)
    plots_steps.share_inside_over_steps(axes[0], distances, {m: r.volume for m, r in view.found.items()})
    plots_steps.distance_over_steps(axes[1], distances)
    plots_steps.concentration_curve(axes[2], {m: concentration(view.study.runs, view.found[m]) for m in distances})
    handles, labels = axes[0].get_legend_handles_labels()
    chance = Line2D([], [], color=style.GREY, linestyle=":")
    figure.legend([*handles, chance], [*labels, "chance"], loc="outside lower center", ncols=6)
    return figure, (
        "Left: the share of the T1-T2 runs whose hyperparameters are inside the optimal region; dotted, "
        "the region's share of the box, which is what values drawn at random would give. Middle: the "
        "median distance to the region with the middle half of the runs; the box has sides of length 1. "
        "Right: the share of the starts (thin) and of the ends (thick) that lie in the best part of the "
        "box, for every size of that part: needs no threshold. Runs that diverged are counted as outside "
        "on the right, and up to the step they reached elsewhere."
    )


def hyperparameters_over_steps(view: StudyView) -> Drawn | NotComputable:
    """Every run's hyperparameters over the steps."""
    if view.trajectories.empty:
        return NotComputable("no recorded trajectory of an online run")
    if not view.boxes:
        return NotComputable("no hyperparameter varies between the runs")
    models = [m for m in view.study.models if len(view.paths(m))]
    figure, axes = style.panels(len(models) * len(view.boxes), height=3.3)
    for ax, (model, name) in zip(axes, ((m, h) for m in models for h in view.boxes), strict=True):
        region = view.found.get(model)
        extent = None if region is None else plots_region.extents(region).get(name)
        plots_steps.hyperparameter_trajectories(
            ax, view.paths(model, MOST_DRAWN), view.online(model), name, view.boxes[name], extent
        )
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


def contraction(view: StudyView) -> Drawn | NotComputable:
    """How much nearer to each other the runs end than they start, by hyperparameter and direction."""
    frames, reasons = [], []
    for model in view.study.models:
        region = view.found.get(model)
        ratios = contraction_ratios(view.study.runs, model, view.boxes, region.surface if region else None)
        if isinstance(ratios, NotComputable):
            reasons.append(ratios)
            continue
        labels = [h if h.startswith("direction") else style.hyperparameter_label(h) for h in ratios["along"]]
        frames.append(ratios.assign(label=[f"{model}: {label}" for label in labels]))
    if not frames:
        return reasons[0] if reasons else NotComputable("no run")
    rows = pd.concat(frames, ignore_index=True)
    figure, axes = style.panels(1, 7.2, 1.1 + 0.3 * len(rows))
    plots_cost.contraction_plot(axes[0], rows)
    return figure, (
        "The standard deviation of the hyperparameters at the end of the T1-T2 runs over that at their "
        "start, with 95 % bootstrap intervals: left of the dashed line the runs came together. Directions "
        "are the principal ones of the response surface in box units, 1 the most sensitive: where the "
        "surface is flat, there is nothing to come together for."
    )


def model_regions(view: StudyView) -> Drawn | NotComputable:
    """The optimal regions of all models over one another."""
    if len(view.found) < 2:
        return NotComputable(f"{len(view.found)} of the models has a region: a comparison needs two")
    if len(view.boxes) < 2:
        return NotComputable("one hyperparameter: regions are outlined over two")
    figure, axes = style.panels(1, 5.6, 4.8)
    plots_region.region_outlines(axes[0], view.found, view.boxes)
    return figure, (
        "The optimal region of each model (T2 loss, same definition) and the minimum of its surface. The "
        "outlines carry the noise of the grid: the table says whether they differ by more than that."
    )
