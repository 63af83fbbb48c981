from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgba

from analysis.plots import style
from analysis.plots.overlay import overlay_legend, runs_over_region
from analysis.statistics.overlay import lie_inside
from analysis.statistics.region import Region
from analysis.study import Study
from tests.analysis.plots.drawn import colours, offsets, scatters
from tests.analysis.searches import Place, search_runs

PLACES: list[Place] = [  # the optimum is in the corner (-2.5, 0)
    (-2.7, 0.05, "completed", 0.3),
    (-5.0, 0.7, "completed", 0.2),
    (-2.8, 0.1, "stopped", 0.1),
    (-4.0, 0.6, "stopped", 0.1),
    (-3.0, 0.7, "diverged", math.nan),
]


def test_how_each_run_ended_and_whether_it_is_inside(ax: Axes, cornered: Study, region: Region) -> None:
    runs = search_runs(PLACES)
    runs_over_region(ax, runs, cornered.boxes, region, ("log10_l2", "input_noise_std"))
    completed, stopped, diverged, star = scatters(ax)
    for drawn, rows in ((completed, [0, 1]), (stopped, [2, 3]), (diverged, [4]), (star, [1])):
        np.testing.assert_array_equal(offsets(drawn), [PLACES[row][:2] for row in rows])
    inside = lie_inside(runs, region).tolist()
    assert inside == [True, False, True, False, False]
    assert [same_color(c[:3], style.BLUE) for c in colours(completed.get_facecolor())] == inside[:2]
    assert [same_color(c[:3], style.BLUE) for c in colours(stopped.get_edgecolor())] == inside[2:4]
    assert {to_rgba("white")} == set(colours(stopped.get_facecolor()))
    assert ax.get_xlim() == cornered.boxes["log10_l2"]
    black = [c for c in ax.collections if colours(c.get_edgecolor())[:1] == [to_rgba("black")]]
    outline = [np.asarray(path.vertices) for c in black for path in c.get_paths()]
    np.testing.assert_allclose(region.surface.predict(np.vstack(outline)), region.threshold, rtol=2e-3)
    assert [key.get_label() for key in overlay_legend()][:2] == ["inside the region", "outside"]
