from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis import load_study, summarise
from analysis.report.scatter import scatter_json
from analysis.report.sections.claims import claims
from analysis.report.view import MOST_POINTS, StudyView
from tests.analysis.synthetic import write_study


def test_a_study_without_its_spec_and_with_layers_is_reported(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "study", models=("mlp-64",), configurations=6, layers=3, bare=True))
    view = StudyView(study=study, summary=summarise(study))
    panel = json.loads(scatter_json([view]))["panels"][0]
    assert panel["names"] == ["log10_l2", "input_noise_std"]  # the layers' mean
    first = study.runs[study.runs["arm"] == "online"].iloc[0]
    mean = first[[f"log10_l2_layer{k}_initial" for k in (1, 2, 3)]].mean()
    assert panel["runs"][0]["start"][0] == pytest.approx(mean, abs=1e-3)
    text = claims([view]).markdown()
    assert "mlp-64" in text


def test_the_interactive_scatter_is_capped_and_says_so(tmp_path: Path) -> None:
    study = load_study(
        write_study(tmp_path / "study", models=("mlp-64",), configurations=700, points=150, record_every=10)
    )
    view = StudyView(study=study, summary=summarise(study), most_runs=60)
    panel = json.loads(text := scatter_json([view]))["panels"][0]
    assert len(panel["runs"]) == 60
    assert "A sample of 60 of the 700 T1-T2 runs" in panel["note"]
    assert max(len(s) for s in panel["step_lists"]) <= MOST_POINTS + 2
    assert {s[-1] for s in panel["step_lists"]} == {1500}  # the last point is kept
    assert len(text) < 60 * 3000
    online = study.runs[study.runs["arm"] == "online"].set_index("run_id")
    for run in panel["runs"]:
        row = online.loc[run["id"]]
        assert run["end"] == pytest.approx([row["log10_l2_final"], row["input_noise_std_final"]], rel=1e-3, abs=1e-4)
        assert run["path"][0][0] == run["start"][0]
        assert run["path"][1][-1] == pytest.approx(run["end"][1], rel=1e-3, abs=1e-4)
        assert [arm[0] for arm in run["arms"]] == ["initial", "online", "rerun"]
