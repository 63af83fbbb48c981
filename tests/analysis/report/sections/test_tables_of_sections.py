"""Every table of a section shows what the summary holds, row for row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis import load_study, summarise
from analysis.report.build import SECTIONS
from analysis.report.sections import contraction, cost, diagonal, improvement, models, region, runs
from analysis.report.tables import Table
from analysis.report.view import StudyView
from analysis.statistics.records import to_plain
from analysis.statistics.summary import Summary
from tests.analysis.synthetic import write_study


def cells(table: Table, header: str) -> list[str]:
    return [row[table.headers.index(header)] for row in table.cells]


@pytest.mark.parametrize("section", [s.key for s in SECTIONS])
def test_headers_cells_and_raw_rows_belong_together(section: str, view: StudyView) -> None:
    [found] = [s for s in SECTIONS if s.key == section]
    assert found.tables
    for make in found.tables:
        table, of_two = make([view]), make([view, view])
        assert table.gaps == []
        assert len(table.cells) == len(table.rows) > 0
        assert {len(row) for row in table.cells} == {len(table.headers)}
        assert of_two.headers == ["study", *table.headers]
        assert of_two.cells == [["synthetic", *row] for row in [*table.cells, *table.cells]]
        assert of_two.rows == table.rows * 2
        json.dumps(table.rows, allow_nan=False)
        assert table.note.endswith(".")


def test_the_rows_are_those_of_the_summary(view: StudyView, summary: Summary) -> None:
    plain = summary.to_dict()
    parts = plain["models"]["mlp-64"]
    assert [r["runs"] for r in runs.counts([view]).rows] == [r["runs"] for r in plain["counts"]]
    spread = contraction.contraction([view]).rows
    assert [r["std_ratio"] for r in spread if r["model"] == "mlp-64"] == [r["std_ratio"] for r in parts["contraction"]]
    stuck = contraction.clamps([view]).rows
    assert [r["count"] for r in stuck if r["model"] == "mlp-64"] == [r["count"] for r in parts["clamped"]]
    inside = [r["end_share"] for r in region.regions([view]).rows if r["model"] == "mlp-64"]
    assert inside[:4] == [found["shares"]["end"]["value"] for found in parts["region"].values()]
    split = improvement.improvement([view]).rows[0]
    assert [split[r["outcome"]] for r in parts["improvement"]["rerun"]["split"]] == [
        r["share"] for r in parts["improvement"]["rerun"]["split"]
    ]
    paired = diagonal.diagonal([view]).rows
    assert len(paired) == 2 * 3 * 4  # models, pairs of arms, metrics
    assert paired[1]["mean_difference"] == parts["diagonal"]["online_rerun"]["test_loss"]["mean_difference"]["value"]
    assert [r["ratio"] for r in cost.overhead([view]).rows] == [r["ratio"] for r in plain["overhead"]]
    best = cost.best_cell([view]).rows[0]
    assert best["difference_high"] == parts["best_cell"]["online"]["difference"]["high"]
    equal = cost.equal_compute([view]).rows[0]
    assert equal["difference_low"] == parts["equal_compute"]["at_equal_compute"][0]["low"]
    [pair] = models.model_sizes([view]).rows
    assert {"study": "synthetic"} | to_plain(plain["model_sizes"][0]) == pair


def test_hyperparameters_directions_and_verdicts_are_words(view: StudyView) -> None:
    along = cells(contraction.contraction([view]), "along")
    assert along[:4] == ["log₁₀ L2 penalty, λ", "input noise std, n₀", "direction 1", "direction 2"]
    assert set(cells(diagonal.diagonal([view]), "equivalent")) <= {"yes", "no"}
    assert cells(diagonal.diagonal([view]), "pair")[0] == "rerun − online"
    assert cells(cost.overhead([view]), "model") == ["mlp-64", "mlp-128", "all"]
    assert "ends' shift, input noise std, n₀" in models.model_sizes([view]).headers


def test_a_reason_is_given_once_and_says_where(tmp_path: Path) -> None:
    study = load_study(
        write_study(tmp_path / "study", arms=("initial", "online"), models=("mlp-64",), configurations=4)
    )
    view = StudyView(study=study, summary=summarise(study))
    table = region.regions([view])
    assert table.rows == []
    assert table.gaps == ["mlp-64: no grid arm for model mlp-64: the response surface needs fixed-hyperparameter runs"]
    assert region.regions([view, view]).gaps == [f"synthetic · {table.gaps[0]}"]
    assert "Not computed: mlp-64: no grid arm" in table.markdown()
