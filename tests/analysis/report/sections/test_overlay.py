from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import load_study, write_report
from analysis.frames import NotComputable
from analysis.plots import style
from analysis.report.sections.overlay import draw_overlay, where_others_look
from analysis.report.view import StudyView
from analysis.statistics.summary import summarise
from analysis.study import Study
from tests.analysis.report.html_page import Page
from tests.analysis.searches import Place, search_runs, search_study
from tests.analysis.synthetic import Truth, write_study

PLACES: list[Place] = [
    (-3.7, 0.4, "completed", 0.21),
    (-3.7, 0.02, "stopped", 0.4),
    (-3.7, 1.5, "stopped", 0.9),
    (-3.7, 0.4, "diverged", math.nan),
]


@pytest.fixture(scope="module")
def search(study: Study) -> Study:
    return search_study(study, search_runs(PLACES))


def test_a_table_and_a_picture_of_each_study_beside(view: StudyView, search: Study) -> None:
    table = where_others_look([replace(view, beside=(search,))])
    assert [(row["model"], row["beside"], row["n"], row["inside"]) for row in table.rows] == [
        ("mlp-64", "their search", 4, 0.25)
    ]
    assert table.gaps == ["mlp-128: their search: no run of model mlp-128 that did not fail; there are runs of mlp-64"]
    with style.paper_style():
        drawn = draw_overlay(replace(view, beside=(search,)))
    assert not isinstance(drawn, NotComputable)
    figure, caption = drawn
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")] == ["their search · mlp-64"]
    assert "25 % [5, 70] of 4 runs of the arm imported are inside; 1 lie outside the box" in caption


def test_more_runs_than_can_be_drawn_keep_their_best(view: StudyView, study: Study) -> None:
    many: list[Place] = [(-5.0 + 0.002 * k, 0.1, "completed", 1.0 + k) for k in range(1100)]
    runs = search_runs(many)
    runs.loc[1001, "t2_loss"] = 0.5
    with style.paper_style():
        drawn = draw_overlay(replace(view, beside=(search_study(study, runs),)))
    assert not isinstance(drawn, NotComputable)
    figure, caption = drawn
    assert "(500 of its 1100 runs drawn, evenly spaced)" in caption
    [star] = [c for c in figure.axes[0].collections if len(np.asarray(c.get_offsets())) == 1 and c.get_zorder() == 5]
    assert np.asarray(star.get_offsets())[0].tolist() == pytest.approx(many[1001][:2])


def test_the_report_has_the_section_only_where_something_is_laid_over(search: Study, tmp_path: Path) -> None:
    folder = write_study(
        tmp_path / "one",
        models=("mlp-64",),
        box={"log10_l2": (-5.5, -2.5)},
        truth=Truth(optimum={"mlp-64": (0.6,)}, curvature=(1.5,)),
        grid=(7,),
        configurations=6,
        points=3,
    )
    study = load_study(folder)
    with_search = write_report([study], tmp_path / "with", beside=[search])
    assert {"overlay.png", "overlay.svg"} <= {path.name for path in with_search.figures}
    assert pd.read_csv(tmp_path / "with" / "tables" / "overlay.csv")["n"].tolist() == [4]
    page = Page(with_search.html.read_text(encoding="utf-8"))
    assert "Where do other searches look?" in page.text
    assert "their search, mlp-64: 75 % [30, 95] of 4 runs" in page.text
    without = write_report([study], tmp_path / "without")
    assert "overlay.png" not in {path.name for path in without.figures}
    assert "Where do other searches look?" not in Page(without.html.read_text(encoding="utf-8")).text


def test_reasons_stand_where_nothing_can_be_drawn(study: Study, search: Study, tmp_path: Path) -> None:
    without_grid = load_study(write_study(tmp_path / "online", models=("mlp-64",), arms=("online",), configurations=4))
    view = StudyView(study=without_grid, summary=summarise(without_grid), beside=(search,))
    drawn = draw_overlay(view)
    assert isinstance(drawn, NotComputable)
    assert "no grid arm for model mlp-64" in drawn.reason
    assert where_others_look([view]).gaps == [f"mlp-64: {drawn.reason}"]
    other = search_study(study, search_runs(PLACES, model="resnet"))
    drawn = draw_overlay(StudyView(study=study, summary=summarise(study), beside=(other,)))
    assert isinstance(drawn, NotComputable)
    assert "their search: no run of model mlp-64 that did not fail; there are runs of resnet" in drawn.reason
