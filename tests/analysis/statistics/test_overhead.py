from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.frames import NotComputable
from analysis.statistics.overhead import time_overhead, time_ratios
from analysis.study import Study
from tests.analysis.synthetic import Truth, make_runs


def overhead_of(runs: pd.DataFrame, **options: object) -> pd.DataFrame:
    found = time_overhead(runs, **options)  # type: ignore[arg-type]
    assert isinstance(found, pd.DataFrame)
    return found


def test_the_paired_time_ratio_by_model(study: Study) -> None:
    frame = overhead_of(study.runs)
    assert frame["model"].tolist() == ["mlp-64", "mlp-128", "all"]
    assert frame["n"].tolist() == [24, 24, 48]
    assert ((frame["low"] < 1.12) & (frame["high"] > 1.12)).all()
    ratios = time_ratios(study.runs)
    assert len(ratios) == 48
    np.testing.assert_allclose(frame["ratio"][2], np.exp(np.log(ratios["ratio"]).mean()))
    np.testing.assert_allclose(ratios["extra_s"], ratios["online_s"] - ratios["initial_s"])
    assert frame["extra_s"][2] == ratios["extra_s"].mean()


def test_pairing_removes_what_the_machine_does_to_both() -> None:
    runs = make_runs(configurations=60)
    slow = runs["config_index"].mod(3).map({0: 1.0, 1: 2.0, 2: 7.0})
    frame = overhead_of(runs.assign(train_time_s=runs["train_time_s"] * slow))
    np.testing.assert_allclose(frame["ratio"], overhead_of(runs)["ratio"])


def test_coverage_of_the_ratio() -> None:
    covered = []
    for k in range(80):
        frame = overhead_of(make_runs(Truth(overhead=1.3), configurations=32, arms=("initial", "online"), seed=k))
        covered.append(frame["low"][0] <= 1.3 <= frame["high"][0])
    assert np.mean(covered) >= 0.87


def test_the_seed_decides_the_interval(study: Study) -> None:
    pd.testing.assert_frame_equal(overhead_of(study.runs, seed=1), overhead_of(study.runs, seed=1))
    assert not overhead_of(study.runs, seed=1)["low"].equals(overhead_of(study.runs, seed=2)["low"])


def test_runs_that_diverged_or_have_no_time_are_left_out() -> None:
    runs = make_runs(configurations=10)
    online = runs.index[runs["arm"] == "online"]
    runs.loc[online[0], "status"] = "diverged"
    runs.loc[online[1], "train_time_s"] = 0.0
    runs.loc[online[2], "train_time_s"] = np.nan
    assert overhead_of(runs)["n"].tolist() == [7]
    none = time_overhead(runs.assign(train_time_s=0.0))
    assert isinstance(none, NotComputable)
    assert "no configuration completed with a measured time" in none.reason
    missing = time_overhead(runs[runs["arm"] != "initial"])
    assert isinstance(missing, NotComputable)
    assert missing.reason == "no completed run in the arm initial"


def test_a_pack_is_one_measurement() -> None:
    runs = make_runs(configurations=32, arms=("initial", "online"))
    packed = runs.copy()
    packed["train_time_s"] = runs.groupby(["model", "arm", runs["config_index"] // 8])["train_time_s"].transform("mean")
    alone, together = overhead_of(runs), overhead_of(packed)
    assert (together["n"] == alone["n"]).all()
    four = packed[packed["config_index"] % 8 == 0]
    pd.testing.assert_frame_equal(together[["ratio", "low", "high"]], overhead_of(four)[["ratio", "low", "high"]])
