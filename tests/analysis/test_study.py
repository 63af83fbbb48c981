from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from analysis.files import StudyError
from analysis.study import Study, load_study
from tests.analysis.synthetic import write_study


def by_id(frame: pd.DataFrame, *keys: str) -> pd.DataFrame:
    return frame.sort_values(["run_id", *keys], ignore_index=True)


def test_a_study_is_its_spec_and_its_tables(study: Study, study_dir: Path) -> None:
    assert study.name == "synthetic"
    assert study.spec["models"][0]["hidden"] == [64]
    assert study.models == ["mlp-64", "mlp-128"]
    assert study.boxes == {"log10_l2": (-5.5, -2.5), "input_noise_std": (0.0, 0.8)}
    for table, frame in (("runs", study.runs), ("trajectories", study.trajectories), ("attempts", study.attempts)):
        written = pq.read_table(study_dir / f"{table}.parquet")
        assert list(frame.columns) == written.column_names
        assert len(frame) == written.num_rows


def test_columns_and_filters_choose_what_is_read(study_dir: Path) -> None:
    whole = load_study(study_dir).runs
    part = load_study(
        study_dir, columns=["model", "t2_loss"], filters=[("arm", "==", "online"), ("t2_loss", "<", 0.23)]
    )
    expected = whole.loc[(whole["arm"] == "online") & (whole["t2_loss"] < 0.23), ["model", "t2_loss"]]
    pd.testing.assert_frame_equal(part.runs, expected.reset_index(drop=True))
    assert 0 < len(expected) < len(whole)
    assert len(part.trajectories) == 10 * len(expected)
    assert len(part.attempts) == len(expected)
    by_expression = load_study(study_dir, filters=pc.field("arm") == "online")
    assert set(by_expression.runs["arm"]) == set(by_expression.trajectories["arm"]) == {"online"}


def test_a_running_study_is_the_union_of_published_rows_and_shards(tmp_path: Path) -> None:
    finished = load_study(write_study(tmp_path / "finished"))
    running = load_study(write_study(tmp_path / "running", shards=3))
    pd.testing.assert_frame_equal(by_id(running.runs), by_id(finished.runs))
    pd.testing.assert_frame_equal(by_id(running.trajectories, "step"), by_id(finished.trajectories, "step"))
    assert running.attempts["run_id"].is_unique
    assert len(running.attempts) == len(finished.attempts)
    assert running.sql("SELECT count(*) AS n FROM runs")["n"][0] == len(finished.runs)
    online = load_study(tmp_path / "running", filters=[("arm", "==", "online")])
    assert len(online.trajectories) == (finished.trajectories["arm"] == "online").sum()


def test_a_study_with_shards_alone_is_read(tmp_path: Path) -> None:
    directory = write_study(tmp_path / "s", shards=2)
    before = load_study(directory).runs
    for table in ("runs", "trajectories", "attempts"):
        (directory / f"{table}.parquet").unlink()
    after = load_study(directory).runs
    assert 0 < len(after) < len(before)


def test_steps_of_runs_that_were_not_committed_are_left_out(tmp_path: Path) -> None:
    directory = write_study(tmp_path / "s", shards=2)
    shard = directory / "ledger" / "trajectories" / "00001.parquet"
    table = pq.read_table(shard)
    lost = table.set_column(0, "run_id", pa.array(["not-committed"] * len(table)))
    pq.write_table(lost, shard.with_name("00009.parquet"))
    assert "not-committed" not in set(load_study(directory).trajectories["run_id"])


def test_an_unreadable_shard_is_left_out_with_a_warning(tmp_path: Path) -> None:
    directory = write_study(tmp_path / "s", shards=3)
    whole = len(load_study(directory).runs)
    shard = directory / "ledger" / "runs" / "00002.parquet"
    lost = pq.read_metadata(shard).num_rows
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.warns(UserWarning, match=r"00002.parquet is damaged"):
        study = load_study(directory)
    assert study.skipped == ("ledger/runs/00002.parquet",)
    assert len(study.runs) == whole - lost
    assert set(study.trajectories["run_id"]) == set(study.runs["run_id"])


def test_nothing_but_the_parquet_files_is_needed(study: Study, tmp_path: Path) -> None:
    directory = write_study(tmp_path / "bare", bare=True)
    (directory / "trajectories.parquet").unlink()
    (directory / "attempts.parquet").unlink()
    bare = load_study(directory)
    assert bare.name == "bare"
    assert bare.spec == {}
    assert bare.study_hash is None
    assert bare.boxes == study.boxes  # from the extent of the grid
    assert bare.trajectories.empty
    assert bare.attempts.empty


@pytest.mark.parametrize("name", ["with space", "per%20cent", "ünïcode λ", "it's", "a#b?c", "glob[*]"])
def test_directory_names_are_taken_as_they_are(study_dir: Path, tmp_path: Path, name: str) -> None:
    directory = shutil.copytree(study_dir, tmp_path / name)
    study = load_study(directory)
    assert len(study.trajectories) == 10 * len(study.runs)


def test_only_the_asked_columns_and_row_groups_are_read(tmp_path: Path) -> None:
    """Destroy the pages of one column and of one row group: a query that needs neither does not notice."""
    directory = write_study(tmp_path / "s", models=("mlp-64",))
    path = directory / "trajectories.parquet"
    table = pq.read_table(path).sort_by([("arm", "ascending")])
    pq.write_table(table, path, row_group_size=len(table) // 4, compression="snappy")
    content = bytearray(path.read_bytes())
    groups = pq.read_metadata(path)
    rotten = [
        (g, c)
        for g in range(groups.num_row_groups)
        for c in range(groups.num_columns)
        if groups.row_group(g).column(c).path_in_schema == "t1_loss"
    ]
    rotten += [(0, c) for c in range(groups.num_columns)]  # the first row group: the grid
    for g, c in rotten:
        column = groups.row_group(g).column(c)
        begin = min(o for o in (column.dictionary_page_offset, column.data_page_offset) if o)
        content[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    study = load_study(directory)
    assert study.sql("SELECT max(step) AS last FROM trajectories WHERE arm = 'online'")["last"][0] == 1000
    with pytest.raises(Exception, match=r"."):
        study.sql("SELECT sum(t1_loss) FROM trajectories WHERE arm = 'online'")
    with pytest.raises(Exception, match=r"."):
        study.sql("SELECT max(step) FROM trajectories WHERE arm = 'grid'")


def test_the_baselines_beside_a_study_are_a_study(
    study_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = shutil.copytree(study_dir, tmp_path / "s")
    monkeypatch.chdir(tmp_path)
    study = load_study("s", columns=["model"], filters=[("arm", "==", "initial")])
    monkeypatch.chdir("/")  # a relative location is that of the time when the study was opened
    assert study.baselines is not None
    assert study.baselines is study.baselines
    assert study.baselines.location == "s/baselines"
    whole = load_study(directory / "baselines")
    pd.testing.assert_frame_equal(study.baselines.runs, whole.runs)
    assert {"compute", "spent", "spent_s"} < set(whole.runs.columns)
    assert whole.baselines is whole
    assert whole.models == study.models
    assert whole.trajectories.empty
    pq.write_table(pq.read_table(directory / "baselines" / "runs.parquet"), directory / "baselines" / "x.parquet")
    (directory / "baselines" / "ledger" / "runs").mkdir(parents=True)
    (directory / "baselines" / "x.parquet").rename(directory / "baselines" / "ledger" / "runs" / "x.parquet")
    (directory / "baselines" / "runs.parquet").unlink()
    running = load_study(directory).baselines
    assert running is not None
    assert len(running.runs) == len(whole.runs)


def test_baselines_that_have_only_begun_are_none_and_damaged_ones_are_named(study_dir: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(study_dir, tmp_path / "s")
    path = directory / "baselines" / "runs.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StudyError, match=r"s/baselines: runs cannot be read|s/baselines/runs.parquet: is damaged"):
        _ = load_study(directory).baselines
    path.unlink()
    assert load_study(directory).baselines is None
    shutil.rmtree(directory / "baselines")
    assert load_study(directory).baselines is None


def spoil_study_json(directory: Path, **changes: object) -> None:
    path = directory / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_bad_input_is_named(study_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no-such-place: there is nothing here"):
        load_study(tmp_path / "no-such-place")
    with pytest.raises(StudyError, match=r"a file; the study's directory is expected"):
        load_study(study_dir / "runs.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match=r"runs.parquet or ledger/runs/\*.parquet is expected"):
        load_study(tmp_path / "empty")
    with pytest.raises(StudyError, match=r"gopher://x/y: not a directory or object-store URI"):
        load_study("gopher://x/y")
    with pytest.raises(StudyError, match=r"no column armo in runs; there are: run_id, config_index, arm"):
        load_study(study_dir, columns=["armo"])
    with pytest.raises(StudyError, match=r"filters = \[\('armo'"):
        load_study(study_dir, filters=[("armo", "==", "online")])
    with pytest.raises(StudyError, match=r"a list of \(column, operator, value\) is expected"):
        load_study(study_dir, filters=3)
    newer = shutil.copytree(study_dir, tmp_path / "newer")
    spoil_study_json(newer, schema_version=99)
    with pytest.raises(StudyError, match=r"schema_version = 99: this version reads up to 1"):
        load_study(newer)
    table = pq.read_table(study_dir / "runs.parquet")
    (newer / "study.json").unlink()
    pq.write_table(table.replace_schema_metadata({"schema_version": "7"}), newer / "runs.parquet")
    with pytest.raises(StudyError, match=r"schema_version = .*7.*: this version reads up to 1"):
        load_study(newer)
    pq.write_table(table, newer / "runs.parquet")
    (newer / "study.json").write_text("{")
    with pytest.raises(StudyError, match=r"study.json: is damaged"):
        load_study(newer)
    (newer / "study.json").unlink()
    (newer / "runs.parquet").write_bytes((study_dir / "runs.parquet").read_bytes()[:-100])
    with pytest.raises(StudyError, match=r"runs.parquet: is damaged"):
        load_study(newer)


def test_a_study_is_read_from_an_object_store(study_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.fs as pafs
    from moto.server import ThreadedMotoServer

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        query = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
        bucket, _ = pafs.FileSystem.from_uri(f"s3://studies?{query}")
        bucket.create_dir("studies")
        pafs.copy_files(str(study_dir), "studies/some/study", destination_filesystem=bucket)
        study = load_study(f"s3://studies/some/study?{query}", filters=[("arm", "==", "online")])
        assert study.name == "synthetic"
        assert len(study.runs) == 48
        assert study.sql("SELECT count(DISTINCT run_id) AS n FROM trajectories")["n"][0] == 48
        assert study.baselines is not None
        assert study.baselines.location == f"s3://studies/some/study/baselines?{query}"
        assert study.baselines.runs["replicate"].nunique() == 6
    finally:
        server.stop()
