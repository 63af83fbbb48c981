from __future__ import annotations

from pathlib import Path

import pytest

from analysis import RegionShares, load_study, summarise
from analysis.report.sections.claims import claims
from analysis.report.text import share
from analysis.report.view import StudyView
from tests.analysis.synthetic import write_study


def test_the_slides_stand_first_and_then_each_model(view: StudyView) -> None:
    table = claims([view])
    assert [row[:2] for row in table.cells] == [["the slides", "–"], ["synthetic", "mlp-64"], ["synthetic", "mlp-128"]]
    assert table.cells[0][5:7] == ["58 %", "20 %"]
    found = view.summary.models["mlp-64"].region["t2_loss"]
    shares = getattr(found, "shares", None)
    assert isinstance(shares, RegionShares)
    assert table.cells[1][table.headers.index("end inside")] == share(shares.end)
    assert table.rows[1]["end_share"] == pytest.approx(shares.end.value, rel=1e-5)
    assert table.gaps == []


def test_what_is_missing_is_a_dash_and_a_gap(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "study", arms=("initial", "online"), models=("mlp-64",)))
    table = claims([StudyView(study=study, summary=summarise(study))])
    assert table.cells[1][2:9] == ["–"] * 7
    assert table.cells[1][9] != "–"  # the time ratio needs no grid and no rerun
    assert any("no grid arm" in gap for gap in table.gaps)
    assert any("in the arm rerun" in gap for gap in table.gaps)
