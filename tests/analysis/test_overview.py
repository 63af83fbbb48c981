"""The best runs of a study, and what it is at a glance, beside the same from the whole runs table in memory."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from analysis import Study, StudyError, load_study, tie_layers
from analysis.overview import MOST_DRAWN, overview
from tests.analysis.synthetic import Truth, write_study


def test_the_best_run_is_the_completed_one_with_the_lowest_t2_loss(study: Study) -> None:
    [found] = study.best().to_dict("records")
    wanted = study.runs.iloc[int(study.runs["t2_loss"].argmin())]
    assert found["run_id"] == wanted["run_id"]
    for column in ("model", "arm", "config_index", "replicate", "t1_loss", "t2_loss", "test_loss", "test_error"):
        assert found[column] == wanted[column], column
    assert [found[h] for h in study.boxes] == [wanted[f"{h}_final"] for h in study.boxes]


@pytest.mark.parametrize("metric", ["t2_loss", "t2_error"])
def test_several_are_in_their_order_and_of_the_asked_arm_and_model(study: Study, metric: str) -> None:
    found = study.best(metric, n=7, arm="online", model="mlp-128")
    online = study.runs.query("arm == 'online' and model == 'mlp-128'")
    assert list(found["run_id"]) == list(online.sort_values([metric, "run_id"])["run_id"][:7])


def test_fewer_than_asked_are_all_there_are(study: Study) -> None:
    assert len(study.best(n=10_000, arm="rerun")) == (study.runs["arm"] == "rerun").sum()


def test_diverged_runs_are_never_the_best(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "s", truth=Truth(diverged=0.5)))
    completed = (study.runs["status"] == "completed").sum()
    assert 0 < completed < len(study.runs)
    found = study.best(n=len(study.runs))
    assert len(found) == completed
    assert found["t2_loss"].is_monotonic_increasing


def test_filters_hold_and_columns_do_not_limit_the_choice(study_dir: Path) -> None:
    part = load_study(study_dir, columns=["model"], filters=[("arm", "==", "grid")])
    assert set(part.best(n=3)["arm"]) == {"grid"}
    assert "test_loss" in part.best()


def test_layers_have_their_own_values_and_absent_hyperparameters_no_column(tmp_path: Path) -> None:
    directory = write_study(tmp_path / "s", layers=2)
    table = pq.read_table(directory / "runs.parquet")
    absent = pc.if_else(pc.equal(table["model"], "mlp-64"), None, table["log10_l2_layer2_final"])
    pq.write_table(
        table.set_column(table.column_names.index("log10_l2_layer2_final"), "log10_l2_layer2_final", absent),
        directory / "runs.parquet",
    )
    study = load_study(directory)
    assert {"log10_l2_layer1", "log10_l2_layer2"} <= set(study.best(n=5, model="mlp-128"))
    assert "log10_l2_layer2" not in study.best(n=5, model="mlp-64")


def test_bad_input_is_named_with_what_is_allowed(study: Study, tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"metric = 'test_loss': t2_loss or t2_error is expected; .* the test set only"
    ):
        study.best("test_loss")
    with pytest.raises(StudyError, match=r"n = 0: a whole number from 1 is expected"):
        study.best(n=0)
    with pytest.raises(StudyError, match=r"arm = 'onlin': the study has 'grid', 'initial', 'online', 'rerun'"):
        study.best(arm="onlin")
    with pytest.raises(StudyError, match=r"""model = "it's": the study has 'mlp-128', 'mlp-64'"""):
        study.best(model="it's")
    lost = load_study(write_study(tmp_path / "s", truth=Truth(diverged=1.0), arms=("initial",)))
    with pytest.raises(StudyError, match=r"no completed run with arm 'initial', so none is the best"):
        lost.best(arm="initial")


def test_names_are_data_and_never_a_part_of_the_query(tmp_path: Path) -> None:
    directory = write_study(tmp_path / "s", models=("mlp-64",))
    table = pq.read_table(directory / "runs.parquet")
    name = "it's' OR '1' = '1"
    renamed = pa.array([name] * len(table))
    pq.write_table(table.set_column(table.column_names.index("model"), "model", renamed), directory / "runs.parquet")
    study = load_study(directory)
    assert study.best(model=name)["model"][0] == name
    assert set(overview(study.sql, study.spec).drawn["model"]) == {name}


@pytest.mark.parametrize("bare", [True, False], ids=["without study.json", "with study.json"])
@pytest.mark.parametrize("layers", [0, 3])
def test_the_overview_is_what_the_whole_table_says(tmp_path: Path, layers: int, bare: bool) -> None:
    directory = write_study(tmp_path / "s", truth=Truth(diverged=0.2), layers=layers, bare=bare, configurations=300)
    study = load_study(directory)
    found = overview(study.sql, study.spec)
    assert found.models == ["mlp-64", "mlp-128"]
    assert found.arms == (sorted if bare else list)(["initial", "online", "rerun", "grid"])
    assert found.by_status == study.runs["status"].value_counts().to_dict()
    assert found.counts.set_index(["model", "arm", "status"])["runs"].to_dict() == (
        study.runs.groupby(["model", "arm", "status"]).size().to_dict()
    )
    assert list(found.boxes) == list(study.boxes)
    for name, box in study.boxes.items():
        assert found.boxes[name] == pytest.approx(box, abs=1e-12)
    online = tie_layers(study.runs.query("arm == 'online' and status == 'completed'"))
    for model in found.models:
        drawn = found.drawn[found.drawn["model"] == model]
        assert len(drawn) == MOST_DRAWN < (online["model"] == model).sum()
        known = online.loc[online["model"] == model, list(drawn.columns)].round(9)
        assert len(drawn.round(9).merge(known, on=list(drawn.columns))) == MOST_DRAWN


def test_the_sample_does_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    directory = write_study(tmp_path / "s", configurations=300)
    study = load_study(directory)
    before = overview(study.sql, study.spec).drawn
    table = pq.read_table(directory / "runs.parquet")
    pq.write_table(table.take(list(range(len(table)))[::-1]), directory / "runs.parquet")
    again = load_study(directory)
    pd.testing.assert_frame_equal(overview(again.sql, again.spec).drawn, before)
