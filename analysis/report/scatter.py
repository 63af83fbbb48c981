"""The data of the page's interactive scatter: runs, trajectories and surface of each study and model, all sampled."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pandas as pd
from contourpy import contour_generator
from matplotlib.image import imsave

from analysis.frames import Boxes, positions
from analysis.plots import style
from analysis.plots.region import on_clamp, surface_slice
from analysis.report.view import StudyView
from analysis.statistics.region import Region

PIXELS = 72  # of the surface's picture in each direction; the browser smooths it


def scatter_json(views: Sequence[StudyView]) -> str:
    """The panels as JSON that may stand inside a <script> element; NaN is null, numbers have four digits."""
    panels = [panel for view in views for panel in _panels(view, several=len(views) > 1)]
    text = json.dumps({"panels": panels}, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c")


def _panels(view: StudyView, several: bool) -> list[dict[str, Any]]:
    names = list(view.study.boxes)
    panels = []
    for model in view.study.models if names else ():
        online = view.online(model)
        if online.empty:
            continue
        total, region = len(view.all_online(model)), view.found.get(model)
        note = (
            f"All {total} T1-T2 runs of this model are shown."
            if len(online) == total
            else f"A sample of {len(online)} of the {total} T1-T2 runs of this model is shown, evenly spaced over the "
            "plan; every number in the tables counts all runs."
        )
        if region is None:
            note += f" No surface and no region: {getattr(view.regions.get(model), 'reason', 'not computed')}."
        elif len(region.surface.names) > 2:
            note += " The surface is the slice through its optimum; a run is judged at its own hyperparameters."
        panels.append(
            {
                "title": f"{view.study.name} · {model}" if several else model,
                "names": names,
                "note": note,
                "labels": [style.hyperparameter_label(h) for h in names],
                "box": [list(view.study.boxes[h]) for h in names],
                "surfaces": _surfaces(region, view.study.boxes, names),
                "bands": _bands(region),
                **_runs(view, model, online, names, region),
            }
        )
    return panels


def _surfaces(region: Region | None, boxes: Boxes, names: Sequence[str]) -> list[dict[str, Any]]:
    """The surface over the two hyperparameters; where there are more, over every pair of the first four."""
    varied = [h for h in names if region is not None and h in region.surface.names][:4]
    pairs = permutations(varied, 2) if len(names) > 2 else combinations(varied, 2)
    return [] if region is None else [_surface(region, boxes, names, *pair) for pair in pairs]


def _surface(region: Region, boxes: Boxes, names: Sequence[str], across: str, up: str) -> dict[str, Any]:
    x, y, values = surface_slice(region, boxes, across, up, PIXELS)
    low, high = float(values.min()), float(values.max())
    picture = io.BytesIO()
    shade = np.sqrt((values - low) / ((high - low) or 1.0))  # fine near the optimum, as the static picture's levels
    imsave(picture, shade, cmap=style.SURFACE, vmin=0, vmax=1, origin="lower", format="png", metadata={"Software": ""})
    lines: Any = contour_generator(x, y, values).lines(region.threshold)
    return {
        "axes": [names.index(across), names.index(up)],
        "outline": [[_numbers(line[:, 0]), _numbers(line[:, 1])] for line in lines],
        "image": "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode(),
    }


def _bands(region: Region | None) -> list[list[float | None]]:
    """The intervals of the region where there is one hyperparameter; none otherwise."""
    if region is None or len(region.surface.names) != 1:
        return []
    (x,), values = region.surface.lattice(2001)
    inside = np.concatenate([[False], values <= region.threshold, [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    return [_numbers([x[low], x[high - 1]]) for low, high in zip(edges[::2], edges[1::2], strict=True)]


def _runs(
    view: StudyView, model: str, online: pd.DataFrame, names: Sequence[str], region: Region | None
) -> dict[str, Any]:
    identity = ["config_index", "replicate"]
    of_model = view.runs[(view.runs["model"] == model) & (view.runs["arm"] != "grid")]
    arms = dict(iter(of_model.merge(online[identity], on=identity).groupby(identity, sort=False)))
    paths = dict(iter(view.paths(model).groupby("run_id", sort=False)))
    inside = _inside(online, region)
    step_lists: list[list[int]] = []
    runs = []
    for place, (_, run) in enumerate(online.iterrows()):
        path = paths.get(run["run_id"])
        start = [run[f"{h}_initial"] for h in names]
        end = [run[f"{h}_final"] if run["status"] == "completed" else math.nan for h in names]
        steps = [0] if path is None else [0, *(int(s) for s in path["step"])]
        if steps not in step_lists:
            step_lists.append(steps)
        part = arms[(run["config_index"], run["replicate"])].drop_duplicates("arm").set_index("arm")
        results = [
            [arm, *_numbers([part["t2_loss"][arm], part["test_loss"][arm]]), str(part["status"][arm])]
            for arm in ("initial", "online", "rerun")
            if arm in part.index
        ]
        t2_path = [None] if path is None else [None, *_numbers(path["t2_loss"])]
        replicate = f", replicate {run['replicate']}" if (online["replicate"] != 0).any() else ""
        runs.append(
            {
                "id": str(run["run_id"]),
                "title": f"Configuration {run['config_index']}{replicate}",
                "start": _numbers(start),
                "end": _numbers(end),
                "arms": results,
                "inside": [None, None] if inside is None else inside[place],
                "clamped": [
                    bool(on_clamp(np.asarray(v), view.study.boxes[h])) for v, h in zip(end, names, strict=True)
                ],
                "steps": step_lists.index(steps),
                "t2_path": t2_path,
                "path": [
                    _numbers([first] if path is None else [first, *path[h]])
                    for first, h in zip(start, names, strict=True)
                ],
            }
        )
    return {"runs": runs, "step_lists": step_lists}


def _inside(online: pd.DataFrame, region: Region | None) -> list[list[bool | None]] | None:
    """Whether each run starts and ends inside; None for an end that there is not."""
    if region is None:
        return None
    start, end = (region.contains(positions(online, region.surface.names, which)) for which in ("initial", "final"))
    return [
        [bool(s), bool(e) if status == "completed" else None]
        for s, e, status in zip(start, end, online["status"], strict=True)
    ]


def _numbers(values: Any) -> list[float | None]:
    """Four significant digits; None for what is not a finite number."""
    return [float(f"{v:.4g}") if v is not None and math.isfinite(v) else None for v in values]
