"""The section of the rivals: random search, schedulers, TPE and populations against T1-T2 at equal compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from analysis.frames import NotComputable
from analysis.plots import baselines as plots_baselines
from analysis.plots import style
from analysis.report.section import Drawing, Section
from analysis.report.tables import Found, Raw, Table, make_table
from analysis.report.text import NONE, number, word
from analysis.report.view import Drawn, StudyView
from analysis.statistics.baselines import BUDGETS, BaselineSummary, Standing
from analysis.statistics.records import bounded, computed_parts

NO_BASELINES = NotComputable("no rival was run beside this study; `t1t2 baselines SPEC` runs them")
_MARKS = {"ahead": "▲", "behind": "▼"}  # one sign: a word in every cell would make the table too wide for the page
_UNIT = (
    "A training is one with fixed hyperparameters and one evaluation of T2; all else is counted in its measured cost."
)


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One method at all budgets."""

    method: str
    at: dict[str, Standing]  # by the label of the budget


def ahead(views: Sequence[StudyView]) -> Table:
    """Each method in one line, with its test loss at each budget."""
    found = [line for view in views for line in _lines(view)]
    labels = _labels(found)
    return make_table(
        found,
        [("method", lambda r: word(r.method)), *((_header(label), partial(_cell, label)) for label in labels)],
        lambda r: _raw(r, labels),
        name="baselines",
        title="Who is ahead where",
        note="Mean test loss, over the repetitions, of the run that the method would choose on T2 within the budget, "
        f"and whether that is ahead of online ({_MARKS['ahead']}) or behind it ({_MARKS['behind']}) at the same "
        "budget; no sign: no difference beyond the 95 % interval, or nothing to compare with. No number: in some "
        f"repetition no run had ended by then. {_UNIT} A population of PBT costs a little more than its members' "
        "trainings, because it looks at T2 more often.",
        several=len(views) > 1,
    )


def standings(views: Sequence[StudyView]) -> Table:
    """Each method at each budget, with its difference to online."""
    return make_table(
        [part for view in views for part in _standings(view)],
        [
            ("budget", lambda r: word(r.budget)),
            ("trainings", lambda r: number(r.trainings)),
            ("method", lambda r: word(r.method)),
            ("test loss", lambda r: number(r.expected)),
            ("difference to online", lambda r: number(r.difference, 2)),
            ("verdict", lambda r: word(r.verdict)),
            ("seconds", lambda r: number(r.seconds)),
            ("repetitions", lambda r: word(r.expected.n)),
        ],
        lambda r: Standing.published(r) | bounded("difference", r.difference),
        name="baselines_differences",
        title="The rivals against online",
        note="The difference is that to online at the same budget, in pairs of repetitions, which share their random "
        "starts; below 0 the method is ahead. Intervals: 95 %, bootstrap over repetitions, each comparison by itself. "
        "Seconds: training time of the runs that had ended within the budget.",
        several=len(views) > 1,
    )


def draw_baselines(view: StudyView) -> Drawn | NotComputable:
    """The expected test loss over compute, a panel for each model."""
    if view.summary.baselines is None:
        return NO_BASELINES
    curves = computed_parts(
        {
            model: part.curve if isinstance(part, BaselineSummary) else part
            for model, part in view.summary.baselines.items()
        }
    )
    if isinstance(curves, NotComputable):
        return curves
    figure, axes = style.panels(len(curves), width=7.6, height=4.6, columns=1)
    for ax, (model, curve) in zip(axes, curves.items(), strict=True):
        plots_baselines.baseline_plot(ax, curve)
        ax.set_title(model)
    return figure, (
        "The expected test loss of the run that each method has chosen by its T2 loss, over the compute that it has "
        f"spent. {_UNIT} Mean and 95 % bootstrap interval over repetitions. A line begins where every repetition has "
        "its first choice; what is worse than all values from four trainings on is not shown. PBT has a mark for each "
        "size of its population."
    )


def _parts(view: StudyView) -> Iterator[tuple[str | None, tuple[Standing, ...] | NotComputable]]:
    if view.summary.baselines is None:
        yield None, NO_BASELINES
        return
    for model, part in view.summary.baselines.items():
        yield model, part if isinstance(part, NotComputable) else part.standings


def _standings(view: StudyView) -> Iterator[Found[Standing]]:
    """Those at which the method has a choice."""
    for model, rows in _parts(view):
        if isinstance(rows, NotComputable):
            yield Found(study=view.study.name, model=model, row=rows)
            continue
        for row in rows:
            if row.expected.n:
                yield Found(study=view.study.name, model=model, row=row)


def _lines(view: StudyView) -> Iterator[Found[_Line]]:
    for model, rows in _parts(view):
        if isinstance(rows, NotComputable):
            yield Found(study=view.study.name, model=model, row=rows)
            continue
        for method in dict.fromkeys(row.method for row in rows):
            at = {row.budget: row for row in rows if row.method == method}
            yield Found(study=view.study.name, model=model, row=_Line(method=method, at=at))


def _labels(lines: Sequence[Found[_Line]]) -> list[str]:
    """The budgets of all lines, by their mean in trainings."""
    places: dict[str, list[float]] = {}
    for found in lines:
        if not isinstance(found.row, NotComputable):
            for label, row in found.row.at.items():
                places.setdefault(label, []).append(row.trainings)
    return sorted(places, key=lambda label: sum(places[label]) / len(places[label]))


def _header(label: str) -> str:
    return f"{label} training{'s' * (label != '1')}" if label in map(str, BUDGETS) else label


def _cell(label: str, line: _Line) -> str:
    row = line.at.get(label)
    if row is None or not row.expected.n:
        return NONE
    return number(row.expected.value) + (f" {_MARKS[row.verdict]}" if row.verdict in _MARKS else "")


def _raw(line: _Line, labels: Sequence[str]) -> Raw:
    return {"method": line.method} | {
        label: line.at[label].expected.value if label in line.at else None for label in labels
    }


SECTION = Section(
    key="baselines",
    title="Is it better than its rivals at equal compute?",
    drawings=(Drawing(stem="baselines", title="Rivals at equal compute", draw=draw_baselines),),
    tables=(ahead, standings),
)
