"""One small synthetic study for the tests that only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.study import Study, load_study
from tests.analysis.synthetic import write_study


@pytest.fixture(scope="session")
def study_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("studies") / "synthetic")


@pytest.fixture(scope="session")
def study(study_dir: Path) -> Study:
    return load_study(study_dir)
