"""A study as a notebook shows it: a small table, and a scatter of starts and ends for each model.

The colours of text and lines are those of the page around it, so that it can be read on a light and on a dark ground.
Names come from files that anybody may have written: every one is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd
from markupsafe import Markup

from analysis.frames import Boxes
from analysis.overview import MOST_DRAWN, MOST_PANELS, Overview

_END = "#3d8fd1"  # stands out from white and from black alike
_SIDE, _LEFT, _BELOW = 190.0, 8.0, 20.0  # of a panel, in pixels: the box, and the room around it
_MOST_NAMES, _MOST_LETTERS = 8, 60  # names in a cell, letters of a name


def as_html(name: str, place: str, published: bool, shown: Overview) -> str:
    """The study ``name`` at ``place`` as HTML, under 200 KB however many runs, models and hyperparameters it has."""
    if shown.counts.empty:
        return as_sentence(name, "no run has been committed yet")
    row = Markup(
        '<tr><th scope="row" style="text-align: left; white-space: nowrap">{}</th>'
        '<td style="text-align: left">{}</td></tr>'
    )
    rows = Markup("").join(row.format(*texts) for texts in _rows(place, published, shown))
    panels = Markup("").join(_panel(shown, model) for model in shown.models[:MOST_PANELS])
    return str(
        Markup(
            '<div><p><strong>{}</strong></p><table style="color: inherit; font: inherit"><tbody>{}</tbody></table>'
            '<div style="display: flex; flex-wrap: wrap; gap: 16px">{}</div>{}</div>'
        ).format(_short(name), rows, panels, _key(shown) if panels else "")
    )


def as_sentence(name: str, what: str) -> str:
    """The study ``name`` and the one thing that there is to say of it, as HTML."""
    return str(Markup("<p><strong>{}</strong>: {}</p>").format(_short(name), what[:1000]))


def _rows(place: str, published: bool, shown: Overview) -> Iterator[tuple[str, str]]:
    yield "models", _listed(shown.models)
    yield "arms", _listed(shown.arms)
    yield "runs", _listed([f"{n:,} {status}" for status, n in shown.by_status.items()])
    if shown.boxes:
        yield "boxes", _listed([f"{h} from {_extent(box)}" for h, box in shown.boxes.items()])
    yield "tables", "published" if published else "not published yet: the runs committed so far"
    for _, best in shown.best.iterrows():
        yield "best T2 loss", _best(best)
    yield "place", _short(place)


def _best(run: pd.Series) -> str:
    """``0.118, with test loss 0.124: online of mlp-32 with log10_l2 = −4.21``."""
    results = ["t1_loss", "t2_loss", "t2_error", "test_loss", "test_error"]
    identity = ["model", "arm", "config_index", "replicate", "run_id"]
    values = [f"{h} = {_number(run[h])}" for h in run.index if h not in [*identity, *results]]
    test = f", with test loss {_number(run['test_loss'])}" if "test_loss" in run.index else ""
    found = f"{_number(run['t2_loss'])}{test}: {_short(run['arm'])} of {_short(run['model'])}"
    return f"{found} with {_listed(values)}" if values else found


def _panel(shown: Overview, model: str) -> Markup:
    """The starts and ends of a model over its first two hyperparameters, as SVG; nothing where none is known.

    With one hyperparameter, the starts stand above the ends.
    """
    names = list(shown.boxes)[:2]
    columns = [f"{h}_{end}" for h in names for end in ("initial", "final")]
    runs = shown.drawn[shown.drawn["model"] == model]
    runs = runs[columns].dropna() if names and len(runs) else pd.DataFrame()
    if runs.empty:
        return Markup("")
    x0, x1 = (_across(runs[f"{names[0]}_{end}"], shown.boxes, names[0]) for end in ("initial", "final"))
    if len(names) > 1:
        y0, y1 = (_up(runs[f"{names[1]}_{end}"], shown.boxes, names[1]) for end in ("initial", "final"))
    else:
        y0, y1 = ([_BELOW + _SIDE * share] * len(runs) for share in (0.25, 0.75))
    ways = " ".join(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for a, b, c, d in zip(x0, y0, x1, y1, strict=True))
    width, height = _SIDE + 2 * _LEFT + 14, _SIDE + 2 * _BELOW
    vertical = f"{names[1]}, {_extent(shown.boxes[names[1]])}" if len(names) > 1 else "start above, end below"
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{w:g}" height="{h:g}" viewBox="0 0 {w:g} {h:g}" role="img" '
        'style="color: inherit; font: 10px sans-serif" fill="none" stroke="currentColor"><title>{title}</title>'
        '<rect x="{left:g}" y="{top:g}" width="{side:g}" height="{side:g}" stroke-opacity="0.5"/>'
        '<path d="{ways}" stroke-opacity="0.2"/>{starts}{ends}'
        '<g fill="currentColor" stroke="none"><text x="{left:g}" y="13" font-weight="bold">{model}</text>'
        '<text x="{left:g}" y="{below:g}">{across}</text>'
        '<text transform="translate({right:g} {bottom:g}) rotate(-90)">{up}</text></g></svg>'
    ).format(
        w=width,
        h=height,
        left=_LEFT,
        top=_BELOW,
        side=_SIDE,
        below=_BELOW + _SIDE + 14,
        right=_LEFT + _SIDE + 12,
        bottom=_BELOW + _SIDE,
        title=f"{_short(model)}: starts and ends of {len(runs)} online runs",
        ways=ways,
        starts=_circles(x0, y0, 'stroke-opacity="0.6"'),
        ends=_circles(x1, y1, f'fill="{_END}" stroke="none"'),
        model=_short(model, 30),
        across=f"{_short(names[0], 20)}, {_extent(shown.boxes[names[0]])}",
        up=_short(vertical, 40),
    )


def _circles(x: Sequence[float], y: Sequence[float], look: str) -> Markup:
    places = Markup("").join(
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.5"/>').format(*place) for place in zip(x, y, strict=True)
    )
    return Markup("<g {}>{}</g>").format(Markup(look), places)


def _key(shown: Overview) -> Markup:
    """What the marks are, and what is left out."""
    online = shown.counts[(shown.counts["arm"] == "online") & (shown.counts["status"] == "completed")]
    text = "Hollow: where online runs start. Filled: where they end."
    if (online.groupby("model")["runs"].sum() > MOST_DRAWN).any():
        text += f" A sample of {MOST_DRAWN} runs is drawn for each model."
    if len(shown.models) > MOST_PANELS:
        text += f" {MOST_PANELS} of {len(shown.models)} models are drawn."
    if len(shown.boxes) > 2:
        text += f" 2 of {len(shown.boxes)} hyperparameters are drawn."
    return Markup("<p>{}</p>").format(text)


def _across(values: pd.Series, boxes: Boxes, name: str) -> list[float]:
    return [float(v) for v in _LEFT + _SIDE * _shares(values, boxes[name])]


def _up(values: pd.Series, boxes: Boxes, name: str) -> list[float]:
    return [float(v) for v in _BELOW + _SIDE * (1 - _shares(values, boxes[name]))]


def _shares(values: pd.Series, box: tuple[float, float]) -> pd.Series:
    """How far along the box each value lies, from 0 to 1; one outside stands at the edge."""
    low, high = box
    return ((values - low) / (high - low)).clip(0, 1)


def _extent(box: tuple[float, float]) -> str:
    return f"{_number(box[0])} to {_number(box[1])}"


def _listed(texts: Sequence[str]) -> str:
    """The texts with commas between; of many, the first."""
    more = f" and {len(texts) - _MOST_NAMES:,} more" if len(texts) > _MOST_NAMES else ""
    return ", ".join(_short(text) for text in texts[:_MOST_NAMES]) + more


def _short(text: str, most: int = _MOST_LETTERS) -> str:
    """The text, cut where it is longer than anybody reads."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−") if math.isfinite(value) else "–"
