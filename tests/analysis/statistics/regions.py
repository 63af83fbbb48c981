"""The region of a synthetic study, and what it should be."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.statistics.region import Region, find_region
from tests.analysis.synthetic import BOX, Truth

CENTRED = Truth(optimum={"mlp-64": (0.5, 0.5)})  # the optimum is a cell of a 5 × 5 grid


def region_of(runs: pd.DataFrame, metric: str = "t2_loss") -> Region:
    region = find_region(runs, "mlp-64", dict(BOX), metric)
    assert isinstance(region, Region)
    return region


def ellipse(region: Region, truth: Truth) -> float:
    """The area of {Σ c_i (u_i - u*_i)² ≤ margin} in box units."""
    return float(np.pi * region.margin / np.sqrt(np.prod(truth.curvature)))
