"""Axes, and a study whose optimum is in a corner of the box."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from matplotlib.axes import Axes

from analysis import load_study
from analysis.plots import style
from analysis.statistics.region import Region, find_region
from analysis.study import Study
from tests.analysis.synthetic import Truth, write_study


@pytest.fixture(autouse=True)
def paper() -> Iterator[None]:
    with style.paper_style():
        yield


@pytest.fixture(scope="session")
def cornered(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The optimum is in a corner of the box, so that many runs end on a clamp; some diverge."""
    truth = Truth(optimum={"mlp-64": (0.97, 0.03)}, end_spread=0.08, diverged=0.1)
    folder = tmp_path_factory.mktemp("plots") / "cornered"
    return load_study(write_study(folder, truth=truth, models=("mlp-64",), configurations=40))


@pytest.fixture(scope="session")
def region(cornered: Study) -> Region:
    found = find_region(cornered.runs, "mlp-64", cornered.boxes)
    assert isinstance(found, Region)
    return found


@pytest.fixture
def ax() -> Axes:
    axes = style.new_figure(5, 4).subplots()
    assert isinstance(axes, Axes)
    return axes
