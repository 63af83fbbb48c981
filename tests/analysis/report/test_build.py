from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import load_study, write_report
from analysis.report.build import ReportPaths
from analysis.study import Study
from tests.analysis.report.html_page import Page
from tests.analysis.synthetic import Truth, write_study

ONE = ("mlp-64",)


def test_every_file_is_there(written: ReportPaths) -> None:
    names = {p.name for p in written.figures}
    for stem in (
        "region_convergence",
        "ends",
        "hyperparameters",
        "contraction",
        "split",
        "split_curve",
        "diagonal",
        "diagonal_initial",
        "overhead",
        "equal_compute",
    ):
        assert {f"{stem}.png", f"{stem}.svg"} <= names
    assert {p.stem for p in written.tables} >= {
        "claims",
        "region",
        "contraction",
        "clamps",
        "improvement",
        "diagonal",
        "best_cell",
        "overhead",
        "equal_compute",
        "model_sizes",
        "runs",
    }
    for path in (written.html, written.summary, *written.figures, *written.tables):
        assert path.stat().st_size > 100
    assert sum(p.stat().st_size for p in written.figures if p.suffix == ".png") < 4e6


def test_the_summary_and_the_tables_hold_the_same_numbers(written: ReportPaths) -> None:
    read = json.loads(written.summary.read_text(encoding="utf-8"))
    assert read == {"version": 1, "studies": [written.statistics[0].to_dict()], "comparison": None}
    models = read["studies"][0]["models"]
    folder = written.html.parent / "tables"
    region = pd.read_csv(folder / "region.csv").set_index(["model", "metric"])
    for model, parts in models.items():
        assert region.loc[(model, "T2 loss"), "threshold"] == parts["region"]["t2_loss"]["threshold"]
        assert region.loc[(model, "T2 loss"), "end_share"] == parts["region"]["t2_loss"]["shares"]["end"]["value"]
    paired = pd.read_csv(folder / "diagonal.csv").set_index(["model", "pair", "metric"])
    for model, parts in models.items():
        row = paired.xs((model, "rerun − online", "test loss"))
        known = parts["diagonal"]["online_rerun"]["test_loss"]
        assert [row["mean_difference"], row["mean_difference_low"]] == [
            known["mean_difference"]["value"],
            known["mean_difference"]["low"],
        ]
    claims = (folder / "claims.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in claims if line.startswith("|")]
    assert len(rows) == 2 + 1 + len(models)
    assert len({line.count("|") for line in rows}) == 1


@pytest.mark.slow
def test_the_same_study_gives_the_same_files_in_another_process(
    written: ReportPaths, reported: Study, tmp_path: Path
) -> None:
    code = "import sys, analysis; analysis.write_report([analysis.load_study(sys.argv[1])], sys.argv[2])"
    subprocess.run(
        [sys.executable, "-c", code, reported.location, str(tmp_path)],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    for path in (written.html, written.summary, *written.figures, *written.tables):
        assert (tmp_path / path.relative_to(written.html.parent)).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("settings", "drawn", "said"),
    [
        pytest.param(
            {"arms": ("online",)},
            {"region_convergence", "hyperparameters"},
            ["no grid arm for model mlp-64", "no completed run in the arm initial"],
            id="online alone",
        ),
        pytest.param(
            {"arms": ("grid",)},
            {"region_convergence"},
            ["no completed run of model mlp-64 in the arm online"],
            id="grid alone",
        ),
        pytest.param(
            {"configurations": 1},
            {"region_convergence", "split", "overhead"},
            ["a spread needs two", "a paired comparison needs two"],
            id="one configuration",
        ),
        pytest.param(
            {"truth": Truth(diverged=1.0), "configurations": 4},
            {"region_convergence"},
            ["fewer than three cells of model mlp-64's grid have a completed run"],
            id="all diverged",
        ),
        pytest.param(
            {"box": {"log10_l2": (-3.0, -3.0), "input_noise_std": (0.2, 0.2)}},
            {"diagonal", "overhead"},
            ["no hyperparameter varies"],
            id="constant hyperparameters",
        ),
    ],
)
def test_what_cannot_be_computed_is_said_and_the_rest_is_made(
    settings: dict[str, Any], drawn: set[str], said: list[str], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"models": ONE, "configurations": 6, "points": 4} | settings
    report = write_report([load_study(write_study(tmp_path / "study", **options))], tmp_path / "report")
    page = Page(report.html.read_text(encoding="utf-8"))
    assert {p.stem for p in report.figures} >= drawn
    assert "Not computed." in page.text
    assert "not drawn" in page.text
    for words in said:
        assert words in page.text
    summary = json.loads(report.summary.read_text(encoding="utf-8"))
    assert "not_computable" in json.dumps(summary)
    assert "nan" not in page.text.lower()


def test_studies_stand_side_by_side_and_hostile_names_are_escaped(tmp_path: Path) -> None:
    names = ('a <i>&"study" </script>', 'a <i>&"study" </script>')
    folders = [
        write_study(
            tmp_path / str(i),
            models=ONE,
            configurations=4,
            points=3,
            name=name,
            arms=("initial", "online", "grid"),
            grid=(3, 3),
            estimator=f"e{i}",
        )
        for i, name in enumerate(names)
    ]
    report = write_report([load_study(f) for f in folders], tmp_path / "report")
    page = Page(report.html.read_text(encoding="utf-8"))
    assert "i" not in page.opened
    assert page.text.count(names[0]) >= 4
    assert len(page.scripts) == 2  # the data and the program: no name has closed a script early
    assert [p["title"] for p in json.loads(page.scripts[0])["panels"]] == [f"{n} · mlp-64" for n in names]
    stems = {p.name for p in report.figures}
    assert {
        "comparison.png",
        "a-i-study-script-1_region_convergence.png",
        "a-i-study-script-2_region_convergence.svg",
    } <= stems
    summary = json.loads(report.summary.read_text(encoding="utf-8"))
    assert [s["study"]["name"] for s in summary["studies"]] == list(names)
    assert [r["estimator"] for r in summary["comparison"]] == ["e0", "e1"]


def test_no_study_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no study given"):
        write_report([], tmp_path)
    assert list(tmp_path.iterdir()) == []
