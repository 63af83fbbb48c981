from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgba

from analysis.plots import region as plots_region
from analysis.plots import style
from analysis.statistics.region import Region
from analysis.study import Study
from tests.analysis.plots.drawn import colours, offsets, online_of, scatters


def test_region_picture_shows_starts_ends_clamps_and_the_outline(ax: Axes, cornered: Study, region: Region) -> None:
    online = online_of(cornered)
    plots_region.region_convergence(ax, online, cornered.trajectories.query("arm == 'online'"), cornered.boxes, region)
    starts, discs, squares = scatters(ax)
    np.testing.assert_array_equal(offsets(starts), online[["log10_l2_initial", "input_noise_std_initial"]])
    assert all(same_color(c, "white") for c in colours(starts.get_facecolor()))
    finished = online[online["status"] == "completed"]
    assert len(finished) < len(online)
    ends = finished[["log10_l2_final", "input_noise_std_final"]].to_numpy()
    clamped = (ends[:, 0] == -2.5) | (ends[:, 1] == 0.0)
    assert 3 < clamped.sum() < len(ends)
    for drawn, chosen in ((discs, ends[~clamped]), (squares, ends[clamped])):
        np.testing.assert_array_equal(offsets(drawn), chosen)
        inside = [same_color(c[:3], style.BLUE) for c in colours(drawn.get_facecolor())]
        assert inside == region.contains(chosen).tolist()
        assert not drawn.get_clip_on()  # a mark on a clamp is seen whole
    black = [c for c in ax.collections if colours(c.get_edgecolor())[:1] == [to_rgba("black")]]
    outline = [np.asarray(path.vertices) for c in black for path in c.get_paths()]
    np.testing.assert_allclose(region.surface.predict(np.vstack(outline)), region.threshold, rtol=2e-3)
    walked = cornered.trajectories.query("arm == 'online'")["run_id"].nunique()
    assert len(ax.lines) == 1 + walked  # 1: the grid's cells
    assert ax.get_xlim() == cornered.boxes["log10_l2"]
