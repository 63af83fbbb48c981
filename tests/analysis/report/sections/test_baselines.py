from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis import load_study, summarise, write_report
from analysis.report.sections import baselines
from analysis.report.view import StudyView
from analysis.statistics.baselines import BaselineSummary
from analysis.study import Study
from tests.analysis.report.html_page import Page
from tests.analysis.synthetic import write_study


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("alone") / "study"
    return load_study(write_study(folder, models=("mlp-64",), configurations=4, points=3))


def test_one_line_a_method_with_a_sign_where_it_differs(view: StudyView) -> None:
    table = baselines.ahead([view])
    assert table.headers[:4] == ["model", "method", "1 training", "one online"]
    assert "4 trainings" in table.headers
    rows = {tuple(row[:2]): row for row in table.cells}
    random = rows["mlp-64", "random search"]
    assert random[2].startswith("0.")
    assert random[2].replace("0.", "").isdigit(), "nothing to compare with yet"
    assert random[3].endswith(" ▼")
    assert rows["mlp-64", "online"][2] == "–"
    assert view.summary.baselines is not None
    part = view.summary.baselines["mlp-64"]
    assert isinstance(part, BaselineSummary)
    assert isinstance(part.standings, tuple)
    assert table.rows[0]["1"] == pytest.approx(part.standings[0].expected.value, rel=1e-5)


def test_differences_have_a_row_for_each_choice(view: StudyView) -> None:
    table = baselines.standings([view])
    known = [row for row in table.cells if row[table.headers.index("test loss")] == "–"]
    assert known == []
    assert {"ahead", "behind", "no difference", "–"} >= {row[table.headers.index("verdict")] for row in table.cells}
    assert set(table.rows[0]) >= {"difference", "difference_low", "difference_high", "expected_low", "seconds"}


def test_a_study_without_rivals_says_how_to_run_them(alone: Study, tmp_path: Path) -> None:
    report = write_report([alone], tmp_path, sections=[baselines.SECTION])
    page = Page(report.html.read_text(encoding="utf-8"))
    reason = "no rival was run beside this study; `t1t2 baselines SPEC` runs them."
    assert f"Rivals at equal compute: not drawn. {reason}" in page.text
    assert f"Not computed. {reason}" in page.text
    assert report.figures == ()
    [summary] = json.loads(report.summary.read_text(encoding="utf-8"))["studies"]
    assert "baselines" not in summary


def test_the_rivals_of_one_study_stand_beside_another_that_has_none(study: Study, alone: Study, tmp_path: Path) -> None:
    report = write_report([study, alone], tmp_path, sections=[baselines.SECTION])
    assert sorted(p.name for p in report.figures if "baselines" in p.name) == [
        "synthetic-1_baselines.png",
        "synthetic-1_baselines.svg",
    ]
    assert [s.baselines is None for s in report.statistics] == [False, True]


def test_the_rivals_by_themselves_are_a_study_that_can_be_reported(study: Study, tmp_path: Path) -> None:
    assert study.baselines is not None
    report = write_report([study.baselines], tmp_path)
    statuses = {count.status for count in summarise(study.baselines).counts}
    assert statuses == {"completed", "stopped"}
    assert "not drawn" in report.html.read_text(encoding="utf-8")
