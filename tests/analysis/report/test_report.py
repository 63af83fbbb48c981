"""The report: one self-contained page that says what it shows, and says why where it cannot."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import load_study, summarise, write_report
from analysis.report.build import ReportPaths
from analysis.report.rows import all_tables
from analysis.report.scatter import scatter_json
from analysis.report.text import number_cell, p_cell, share_cell
from analysis.report.view import MOST_POINTS, StudyView
from analysis.study import Study
from tests.analysis.synthetic import Truth, write_study

ONE = ("mlp-64",)


class Page(HTMLParser):
    """The attributes and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.opened: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self._stack: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.opened.append(tag)
        self._stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._stack and self._stack.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._stack and self._stack[-1] == "script":
            self.scripts.append(data)
        elif self._stack and self._stack[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    return load_study(write_study(folder / "study", models=ONE, configurations=16, truth=Truth(diverged=0.05)))


@pytest.fixture(scope="module")
def written(study: Study, tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return write_report([study], tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def summary(study: Study) -> dict[str, Any]:
    return summarise(study)


@pytest.fixture(scope="module")
def page(written: ReportPaths) -> Page:
    return Page(written.html.read_text(encoding="utf-8"))


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


def test_the_page_carries_everything_and_asks_for_nothing(page: Page) -> None:
    assert page.opened.count("img") == 10
    assert "Regions by model: not drawn. 1 of the models has a region: a comparison needs two." in page.text
    for tag, name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith(("data:", "#")) or tag == "a", (tag, name, value[:80])
        assert not name.startswith("on")
    assert not {"iframe", "object", "embed", "base", "form"} & set(page.opened)
    assert not re.search(r"@import|url\(\s*['\"]?http|fetch\(|XMLHttpRequest|import\(", "".join(page.scripts))
    addresses = re.findall(r"https?://[^\s\"']+", "".join(page.scripts))
    assert set(addresses) == {"http://www.w3.org/2000/svg"}  # a name, not a place


def test_links_of_the_page_lead_to_files_that_are_there(page: Page, written: ReportPaths) -> None:
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    anchors = {value for _, name, value in page.attributes if name == "id"}
    assert len(links) > 25
    for link in links:
        assert link[1:] in anchors if link.startswith("#") else (written.html.parent / link).exists(), link


def test_numbers_stand_with_their_intervals_and_definitions(page: Page, summary: dict[str, Any]) -> None:
    shares = summary["models"]["mlp-64"]["region"]["t2_loss"]["shares"]
    for name in ("start", "end"):
        low, value, high = (shares[name][k] for k in ("low", "value", "high"))
        assert f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]" in page.text
    for definition in summary["definitions"].values():
        assert definition in page.text
    assert "58 %" in page.text
    assert "log₁₀ L2 penalty" in page.text


def test_the_summary_and_the_tables_hold_the_same_numbers(written: ReportPaths, summary: dict[str, Any]) -> None:
    read = json.loads(written.summary.read_text(encoding="utf-8"))
    assert read == {"version": 1, "studies": [summary], "comparison": None}
    models = read["studies"][0]["models"]
    folder = written.html.parent / "tables"
    region = pd.read_csv(folder / "region.csv").set_index(["model", "metric"])
    for model, parts in models.items():
        assert region.loc[(model, "T2 loss"), "threshold"] == parts["region"]["t2_loss"]["threshold"]
        assert region.loc[(model, "T2 loss"), "end_share"] == parts["region"]["t2_loss"]["shares"]["end"]["value"]
    paired = pd.read_csv(folder / "diagonal.csv").set_index(["model", "pair", "metric"])
    for model, parts in models.items():
        row = paired.loc[(model, "rerun − online", "test loss")]
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
    written: ReportPaths, study: Study, tmp_path: Path
) -> None:
    code = "import sys, analysis; analysis.write_report([analysis.load_study(sys.argv[1])], sys.argv[2])"
    subprocess.run(
        [sys.executable, "-c", code, study.location, str(tmp_path)],
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
    options = {"models": ONE, "configurations": 6, "points": 4} | settings
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


def test_a_study_without_its_spec_and_with_layers_is_reported(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "study", models=ONE, configurations=6, layers=3, bare=True))
    view = StudyView(study)
    panel = json.loads(scatter_json([view]))["panels"][0]
    assert panel["names"] == ["log10_l2", "input_noise_std"]  # the layers' mean
    first = study.runs[study.runs["arm"] == "online"].iloc[0]
    mean = first[[f"log10_l2_layer{k}_initial" for k in (1, 2, 3)]].mean()
    assert panel["runs"][0]["start"][0] == pytest.approx(mean, abs=1e-3)
    text = all_tables([summarise(study)])[0].markdown()
    assert "mlp-64" in text


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


def test_the_interactive_scatter_is_capped_and_says_so(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "study", models=ONE, configurations=700, points=150, record_every=10))
    panel = json.loads(text := scatter_json([StudyView(study, 60)]))["panels"][0]
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


def test_no_study_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no study given"):
        write_report([], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("row", "cell"),
    [
        ({"x": 0.7523, "x_low": 0.6312, "x_high": 0.84}, "75 % [63, 84]"),
        ({"x": 0.1}, "10 %"),
        ({"x": None}, "–"),
        ({"x": float("nan")}, "–"),
        ({}, "–"),
    ],
)
def test_shares_as_a_reader_sees_them(row: dict[str, float], cell: str) -> None:
    assert share_cell(row, "x") == cell


@pytest.mark.parametrize(
    ("row", "cell"),
    [
        ({"x": -0.00378, "x_low": -0.00543, "x_high": -0.000223}, "−0.00378 [−0.00543, −0.00022]"),
        ({"x": 1.1156, "x_low": 1.1, "x_high": 1.13}, "1.12 [1.10, 1.13]"),
        ({"x": 0.0}, "0"),
        ({"x": 123456.0}, "123456"),
        ({"x": 1.5e-7}, "1.5e−07"),
        ({"x": float("inf")}, "–"),
    ],
)
def test_numbers_as_a_reader_sees_them(row: dict[str, float], cell: str) -> None:
    assert number_cell(row, "x") == cell


def test_p_values_as_a_reader_sees_them() -> None:
    assert [p_cell(v) for v in (0.0004, 0.0312, 1.0, None, float("nan"))] == ["< 0.001", "0.031", "1.000", "–", "–"]
