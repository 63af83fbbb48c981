"""The report of one small study in which some runs diverge."""

from __future__ import annotations

import pytest

from analysis import load_study, write_report
from analysis.report.build import ReportPaths
from analysis.study import Study
from tests.analysis.report.html_page import Page
from tests.analysis.synthetic import Truth, write_study


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study") / "study"
    return load_study(write_study(folder, models=("mlp-64",), configurations=16, truth=Truth(diverged=0.05)))


@pytest.fixture(scope="session")
def written(reported: Study, tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return write_report([reported], tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def page(written: ReportPaths) -> Page:
    return Page(written.html.read_text(encoding="utf-8"))
