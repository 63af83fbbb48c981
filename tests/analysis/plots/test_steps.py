from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from analysis.plots import steps as plots_steps
from analysis.study import Study
from tests.analysis.plots.drawn import online_of


def test_trajectories_begin_at_the_starts(ax: Axes, cornered: Study) -> None:
    online, paths = online_of(cornered), cornered.trajectories.query("arm == 'online'")
    plots_steps.hyperparameter_trajectories(ax, paths, online, "input_noise_std", (0.0, 0.8))
    drawn = ax.collections[0]
    assert isinstance(drawn, LineCollection)
    segments = drawn.get_segments()
    assert len(segments) == paths["run_id"].nunique()
    assert all(s[0, 0] == 0 for s in segments)
    begun = online.set_index("run_id").loc[paths["run_id"].unique(), "input_noise_std_initial"]
    np.testing.assert_array_equal([s[0, 1] for s in segments], begun)
