"""A search that somebody else has made, as the runs table of an imported study."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.study import Study

Place = tuple[float, float, str, float]  # log10_l2, input_noise_std, status, T2 loss


def search_runs(places: Sequence[Place], model: str = "mlp-64") -> pd.DataFrame:
    """One fixed-hyperparameter run for each place, in the arm ``imported``."""
    columns = ["log10_l2_initial", "input_noise_std_initial", "status", "t2_loss"]
    runs = pd.DataFrame(places, columns=columns)
    for name in ("log10_l2", "input_noise_std"):
        runs[f"{name}_final"] = runs[f"{name}_initial"]
    runs["test_loss"] = runs["t2_loss"] + 1.0
    runs["run_id"] = [f"trial-{place}" for place in range(len(runs))]
    return runs.assign(model=model, arm="imported", config_index=np.arange(len(runs)), replicate=0)


def search_study(study: Study, runs: pd.DataFrame, name: str = "their search") -> Study:
    """A study of these runs."""
    other = dataclasses.replace(study, name=name)
    other.__dict__["runs"] = runs  # where the cached property keeps it
    return other
