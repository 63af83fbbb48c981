"""The section of runs from elsewhere: other studies, such as imported searches, laid over the optimal region."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import pandas as pd

from analysis.frames import NotComputable, scaled, thinned
from analysis.plots import overlay as plots_overlay
from analysis.plots import style
from analysis.report.section import Drawing, Section
from analysis.report.tables import Found, Table, make_table
from analysis.report.text import number, share, word
from analysis.report.view import Drawn, StudyView
from analysis.statistics.overlay import Overlay, best_run, overlays, runs_beside
from analysis.statistics.records import computed_parts
from analysis.statistics.region import Region
from analysis.study import Study

MOST_BESIDE = 500  # runs of another study drawn in one panel


def where_others_look(views: Sequence[StudyView]) -> Table:
    """The share of each other study's runs in the region, and the best of them."""
    return make_table(
        [found for view in views for found in _found(view)],
        [
            ("laid over it", lambda r: word(r.study)),
            ("arm", lambda r: word(r.arm)),
            ("runs", lambda r: word(r.n)),
            ("stopped", lambda r: word(r.stopped)),
            ("diverged", lambda r: word(r.diverged)),
            ("inside", lambda r: share(r.inside)),
            ("region / box", lambda r: share(r.volume)),
            ("best T2 loss", lambda r: number(r.best_t2_loss)),
            ("the surface there", lambda r: number(r.expected_t2_loss)),
            ("its test loss", lambda r: number(r.best_test_loss)),
            ("its distance", lambda r: number(r.best_distance, 2)),
        ],
        lambda row: {"beside": row.study} | {k: v for k, v in row.published().items() if k != "study"},
        name="overlay",
        title="Other searches in the region",
        note="Inside: the share of the runs whose hyperparameters lie in the optimal region of this study, failed runs "
        "left out; one that diverged, or lies outside the box, is not inside. Region / box: what values drawn at "
        "random would give. Best: the completed run with the lowest T2 loss; its distance to the region is measured in "
        "a box with sides of length 1.\nThe surface there: the T2 loss that this study expects at the best run's "
        "hyperparameters. Where it is far from that run's own, the other study trained another network, on other data, "
        "or in another way, and its place in the picture says little.",
        several=len(views) > 1,
    )


def _found(view: StudyView) -> Iterator[Found[Overlay]]:
    """A row for each arm of each study beside, or the reason why there is none."""
    for model, region in view.regions.items():
        if isinstance(region, NotComputable):
            yield Found(study=view.study.name, model=model, row=region)
            continue
        for other in view.beside:
            rows = overlays(other.runs, region, study=other.name)
            reasons = [NotComputable(f"{other.name}: {rows.reason}")] if isinstance(rows, NotComputable) else rows
            for row in reasons:
                yield Found(study=view.study.name, model=model, row=row)


def draw_overlay(view: StudyView) -> Drawn | NotComputable:
    """The runs of the studies beside over the response surface, a panel for each, its model and pair of axes."""
    regions = computed_parts(view.regions)
    if isinstance(regions, NotComputable):
        return regions
    parts = [(other, region, runs_beside(other.runs, region)) for other in view.beside for region in regions.values()]
    found = [(other, region, runs) for other, region, runs in parts if not isinstance(runs, NotComputable)]
    if not found:
        reasons = [f"{other.name}: {runs.reason}" for other, _, runs in parts if isinstance(runs, NotComputable)]
        return NotComputable("; ".join(reasons) or "no study is laid over it")
    panels = [(*part, names) for part in found for names in _axes(part[1])]
    figure, axes = style.panels(len(panels))
    for ax, (other, region, runs, names) in zip(axes, panels, strict=True):
        kept = pd.concat([thinned(runs, MOST_BESIDE), best_run(runs)]).drop_duplicates("run_id")
        plots_overlay.runs_over_region(ax, kept, view.study.boxes, region, names)
        ax.set_title(f"{other.name} · {region.model}")
    keys = plots_overlay.overlay_legend(len(panels[0][-1]))
    figure.legend(handles=keys, loc="outside lower center", ncols=7 if len(axes) > 1 else 3)
    words = [_words(other, runs, region) for other, region, runs in found]
    return figure, " ".join([f"Runs of other studies over the optimal region of {view.study.name}.", *words])


def _axes(region: Region) -> Sequence[tuple[str, ...]]:
    """The pairs of the first three hyperparameters, or the only one."""
    return list(combinations(region.surface.names[:3], 2)) or [region.surface.names]


def _words(other: Study, runs: pd.DataFrame, region: Region) -> str:
    """The caption's sentence on one panel."""
    rows = overlays(other.runs, region, study=other.name)
    if isinstance(rows, NotComputable):
        return f"{other.name}: {rows.reason}."
    parts = [f"{share(row.inside)} of {row.n} runs of the arm {row.arm} are inside" for row in rows]
    points = runs[[f"{h}_final" for h in region.surface.names]].to_numpy(dtype=float)
    places = scaled(points, region.surface.box)
    beyond = int(((places < 0) | (places > 1)).any(axis=1).sum())
    cut = f"; {beyond} lie outside the box and are not drawn" if beyond else ""
    drawn = f" ({MOST_BESIDE} of its {len(runs)} runs drawn, evenly spaced)" if len(runs) > MOST_BESIDE else ""
    return f"{other.name}, {region.model}{drawn}: {', '.join(parts)}{cut}."


SECTION = Section(
    key="overlay",
    title="Where do other searches look?",
    drawings=(Drawing(stem="overlay", title="Other searches over the region", draw=draw_overlay),),
    tables=(where_others_look,),
)
