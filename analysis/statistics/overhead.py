"""What tuning costs: the time of a run over that of the same configuration trained with fixed hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.frames import IDENTITY, Floats, NotComputable, missing_arms, pairs
from analysis.statistics.intervals import Estimate, bootstrap
from analysis.statistics.records import Row, framed


@dataclass(frozen=True, kw_only=True)
class Overhead(Row):
    """The time ratio of one model, or of all models together (``model`` is then ``all``)."""

    bounds_of = "ratio"

    model: str
    n: int
    ratio: Estimate  # the geometric mean of the paired ratios
    median_ratio: float
    extra_s: float  # mean seconds more


def time_ratios(runs: pd.DataFrame, arm: str = "online", over: str = "initial") -> pd.DataFrame:
    """One row for each configuration whose two runs completed.

    Columns: model, config_index, replicate, {arm}_s, {over}_s (seconds of training), ratio, extra_s.
    """
    both = pairs(runs, arm, over)
    both = both[(both[f"status_{arm}"] == "completed") & (both[f"status_{over}"] == "completed")]
    above, below = both[f"train_time_s_{arm}"], both[f"train_time_s_{over}"]
    frame = both[IDENTITY].assign(**{f"{arm}_s": above, f"{over}_s": below}, ratio=above / below, extra_s=above - below)
    return frame[(above > 0) & (below > 0)].reset_index(drop=True)


def overheads(
    runs: pd.DataFrame, arm: str = "online", over: str = "initial", *, seed: int = 0
) -> tuple[Overhead, ...] | NotComputable:
    """The paired time ratio by model, and over all of them where there are several (model ``all``).

    The bootstrap is over configurations, or over packs where they trained packed.
    """
    absent = missing_arms(runs, arm, over)
    if absent:
        return absent
    ratios = time_ratios(runs, arm, over)
    if ratios.empty:
        return NotComputable(f"no configuration completed with a measured time in both {arm} and {over}")
    groups = [(model, ratios[ratios["model"] == model]) for model in dict.fromkeys(runs["model"])]
    groups = [(model, part) for model, part in groups if len(part)]
    return tuple(
        Overhead(
            model=model,
            n=len(part),
            # Runs that trained in one pack share one clock: they are one measurement, not several.
            ratio=bootstrap(
                part.drop_duplicates([f"{arm}_s", f"{over}_s"])["ratio"].to_numpy(dtype=float),
                _geometric_mean,
                seed=seed,
            ),
            median_ratio=float(part["ratio"].median()),
            extra_s=float(part["extra_s"].mean()),
        )
        for model, part in [*groups, *([("all", ratios)] if len(groups) > 1 else [])]
    )


time_overhead = framed(overheads)


def _geometric_mean(ratio: Floats, axis: int = -1) -> Floats:
    return np.asarray(np.exp(np.log(ratio).mean(axis=axis)))
