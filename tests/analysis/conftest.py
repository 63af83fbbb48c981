"""One small synthetic study with its baselines, for the tests that only read, and its statistics."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.report.view import StudyView
from analysis.statistics.summary import Summary, summarise
from analysis.study import Study, load_study
from tests.analysis.synthetic import write_study
from tests.analysis.synthetic_baselines import write_baselines


@pytest.fixture(scope="session")
def study_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_study(tmp_path_factory.mktemp("studies") / "synthetic")
    write_baselines(directory, models=("mlp-64", "mlp-128"), repetitions=6, trainings=4)
    return directory


@pytest.fixture(scope="session")
def study(study_dir: Path) -> Study:
    return load_study(study_dir)


@pytest.fixture(scope="session")
def summary(study: Study) -> Summary:
    return summarise(study)


@pytest.fixture(scope="session")
def view(study: Study, summary: Summary) -> StudyView:
    return StudyView(study=study, summary=summary)
