"""A synthetic study in which some runs diverged, with one strength of the L2 penalty for each layer."""

from __future__ import annotations

import pytest

from analysis.study import Study, load_study
from tests.analysis.synthetic import Truth, write_study


@pytest.fixture(scope="session")
def layered(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("exports") / "layered"
    truth = Truth(diverged=0.2)
    return load_study(write_study(folder, truth=truth, configurations=12, grid=(3, 3), layers=2, name="layered"))
