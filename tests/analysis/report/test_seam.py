"""A statistic with its picture and its table is added from outside, by the list of sections alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis import Estimate, NotComputable, bootstrap, write_report
from analysis.plots import style
from analysis.report.build import SECTIONS
from analysis.report.section import Drawing, Section
from analysis.report.tables import Found, Table, make_table
from analysis.report.text import number
from analysis.report.view import Drawn, StudyView
from analysis.study import Study
from tests.analysis.report.html_page import Page


def runs_a_second(view: StudyView, model: str) -> Estimate | NotComputable:
    runs = view.study.runs[(view.study.runs["model"] == model) & (view.study.runs["status"] == "completed")]
    if runs.empty:
        return NotComputable("no completed run")
    return bootstrap(1 / runs["train_time_s"].to_numpy(dtype=float), np.mean, seed=0)


def speeds(views: Sequence[StudyView]) -> Table:
    return make_table(
        [
            Found(study=view.study.name, model=model, row=runs_a_second(view, model))
            for view in views
            for model in view.study.models
        ],
        [("runs a second", number)],
        lambda speed: {"speed": speed.value},
        name="speeds",
        title="How quick is it?",
        note="Runs a second.",
        several=len(views) > 1,
    )


def draw_speeds(view: StudyView) -> Drawn | NotComputable:
    figure, axes = style.panels(1)
    speed = runs_a_second(view, view.study.models[0])
    if isinstance(speed, NotComputable):
        return speed
    axes[0].axhline(speed.value)
    return figure, "The mean of the runs a second."


def test_a_section_from_outside_is_in_the_report(reported: Study, tmp_path: Path) -> None:
    section = Section(
        key="speed", title="Speed", drawings=[Drawing(stem="speeds", title="Speeds", draw=draw_speeds)], tables=[speeds]
    )
    report = write_report([reported], tmp_path, sections=[*SECTIONS[-1:], section])
    page = Page(report.html.read_text(encoding="utf-8"))
    assert {p.name for p in report.figures} == {"speeds.png", "speeds.svg"}
    assert {p.name for p in report.tables} >= {"speeds.csv", "speeds.md", "runs.csv"}
    assert "Speeds. The mean of the runs a second." in page.text
    assert "How quick is it?" in page.text
    assert (tmp_path / "tables" / "speeds.csv").read_text().startswith("study,model,speed\n")
