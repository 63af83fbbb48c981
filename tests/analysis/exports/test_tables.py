from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.exports.export import export_study
from analysis.study import load_study

PUBLISHED = Path(__file__).parents[3] / "deploy" / "studies" / "layers" / "layers"


def test_csv_files_hold_every_digit_of_the_runs_that_were_chosen(tmp_path: Path) -> None:
    study = load_study(PUBLISHED)
    chosen = study.runs.query("arm == 'online' and t2_loss < 0.2")
    exported = export_study(study, "csv", tmp_path / "csv", chosen)
    assert 0 < exported.runs == len(chosen) < len(study.runs)
    runs = eval(exported.opened_by, {"pandas": pd})
    pd.testing.assert_frame_equal(
        runs, chosen.reset_index(drop=True), check_dtype=False, check_exact=True, check_column_type=False
    )
    for table in ("trajectories", "attempts"):
        read = pd.read_csv(tmp_path / "csv" / f"{table}.csv")
        expected = getattr(study, table)
        expected = expected[expected["run_id"].isin(chosen["run_id"])]
        assert len(read) == len(expected)
        for column in read.select_dtypes("number"):
            assert read[column].tolist() == pytest.approx(expected[column].tolist(), abs=0, rel=0, nan_ok=True), column


def test_the_dictionary_describes_every_column(tmp_path: Path) -> None:
    export_study(load_study(PUBLISHED), "csv", tmp_path / "csv")
    dictionary = pd.read_csv(tmp_path / "csv" / "columns.csv").set_index(["table", "column"])
    for table in ("runs", "trajectories", "attempts"):
        columns = pd.read_csv(tmp_path / "csv" / f"{table}.csv", nrows=1).columns
        assert list(dictionary.loc[table].index) == list(columns)
    assert dictionary["description"].notna().all()
    assert dictionary.loc[("runs", "t2_loss"), "description"] == "mean cross-entropy on T2 at the end, nats"
