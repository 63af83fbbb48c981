import csv
import io
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from service.cli.app import main
from service.client.results import select
from service.errors import StudyError
from tests.service.toy_studies import run_toy


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("studies") / "toy"
    run_toy(out)
    return out


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["results", *words]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["results", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    return captured.err


def test_the_table_has_every_run_and_says_where_the_parquet_is(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, str(study)).splitlines()
    assert lines[0].split()[:4] == ["config_index", "arm", "replicate", "model"]
    assert len(lines) == 1 + 34 + 2  # 3 configurations x 3 arms x 2 models, 4 cells x 2 replicates x 2 models
    assert lines[-2] == "34 of 34 rows"
    assert lines[-1] == f"parquet: {study}/runs.parquet"
    assert (study / "runs.parquet").exists()


@pytest.mark.parametrize("table", ["runs", "trajectories", "attempts"])
def test_a_flipped_bit_is_an_error_that_names_the_file(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    damaged = shutil.copytree(study, tmp_path / "toy")
    content = bytearray((damaged / f"{table}.parquet").read_bytes())
    content[len(content) // 3] ^= 4
    (damaged / f"{table}.parquet").write_bytes(content)
    assert f"{damaged}/{table}.parquet: is damaged" in refused(capsys, str(damaged), "--table", table)
    assert main(["report", str(damaged)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_json_is_the_table_with_every_digit(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = json.loads(printed(capsys, str(study), "--json"))
    table = pd.read_parquet(study / "runs.parquet")
    assert answer["total_rows"] == len(table) == 34
    for row, (_, expected) in zip(answer["rows"], table.iterrows(), strict=True):
        assert row["run_id"] == expected["run_id"]
        assert row["seed"] == expected["seed"]
        assert row["t2_loss"] == expected["t2_loss"]
        assert row["error"] is None


def test_csv(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(capsys, str(study), "--csv"))))
    table = pd.read_parquet(study / "runs.parquet")
    assert [row["run_id"] for row in rows] == list(table["run_id"])
    assert [float(row["t2_loss"]) for row in rows] == list(table["t2_loss"])


def test_choosing_rows_and_columns(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = json.loads(
        printed(
            capsys,
            str(study),
            "--json",
            "--columns",
            "model, t2_loss",
            "--query",
            "t2_loss < 0.6 and model == 'mlp-8'",
            "--arm",
            "online,rerun",
            "--sort",
            "-t2_loss",
            "--limit",
            "2",
        )
    )
    table = pd.read_parquet(study / "runs.parquet")
    kept = table[table["arm"].isin(["online", "rerun"]) & (table["t2_loss"] < 0.6) & (table["model"] == "mlp-8")]
    assert answer["total_rows"] == len(kept)
    expected = sorted(kept["t2_loss"], reverse=True)[:2]
    assert answer["rows"] == [{"model": "mlp-8", "t2_loss": value} for value in expected]


def test_the_other_tables(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = json.loads(printed(capsys, str(study), "--json", "--table", "trajectories", "--arm", "online"))
    assert {row["step"] for row in steps["rows"]} == {0, 100}
    attempts = json.loads(printed(capsys, str(study), "--json", "--table", "attempts"))
    assert [row["outcome"] for row in attempts["rows"]] == ["completed"] * 34
    assert attempts["parquet"] == f"{study}/attempts.parquet"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--columns", "t2_loss,t3_loss"], "--columns t3_loss: must be among run_id, config_index, arm"),
        (["--sort", "-best"], "--sort best: must be among run_id,"),
        (["--arm", "offline"], "--arm offline: must be among grid, initial, online, rerun"),
        (["--query", "t3_loss < 1"], "--query 't3_loss < 1': name 't3_loss' is not defined; must be a pandas query"),
        (["--query", "t2_loss <"], "--query 't2_loss <': invalid syntax"),
        (["--query", "t2_loss + 1"], "--query 't2_loss + 1': "),
        (["--query", "model < 3"], "--query 'model < 3': "),
        (["--query", ""], "--query '': "),
        (["--query", "@pd.io.common.os.getcwd() == 1"], "must not use '@'"),
        (["--table", "attempts", "--arm", "online"], "--arm online: must be among none: this table has no column arm"),
        (["--json", "--csv"], "--json and --csv: choose one"),
    ],
)
def test_bad_input(study: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    error = refused(capsys, str(study), *words)
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("words", [["--table", "walks"], ["--limit", "-1"], ["--limit", "many"]])
def test_bad_options(study: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["results", str(study), *words]) == 2
    assert f"Invalid value for '{words[0]}'" in capsys.readouterr().err


def test_places_without_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{tmp_path}: holds no study" in refused(capsys, str(tmp_path))
    assert "no-such-place: holds no study" in refused(capsys, str(tmp_path / "no-such-place"))
    assert "cannot be opened" in refused(capsys, "nowhere://bucket/study")


def test_an_unreadable_published_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_toy(tmp_path / "toy", configurations=1)
    table = tmp_path / "toy" / "runs.parquet"
    table.write_bytes(table.read_bytes()[:1000])
    error = refused(capsys, str(tmp_path / "toy"))
    assert "runs.parquet: is damaged" in error
    assert len(error.splitlines()) == 1


def test_a_study_may_be_named_where_its_root_is(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (study.parent / "studies").mkdir()
    (study.parent / "studies" / "mine").symlink_to(study)
    monkeypatch.chdir(study.parent)
    assert printed(capsys, "mine", "--limit", "1").splitlines()[-2] == "1 of 34 rows (33 more: --limit 0 shows all)"


def test_sorting_keeps_the_order_of_the_plan_among_equals() -> None:
    frame = pd.DataFrame({"run_id": list("abcd"), "arm": ["x", "y", "x", "y"], "t2_loss": [2.0, 1.0, 1.0, 2.0]})
    assert list(select(frame, sort="t2_loss")["run_id"]) == ["b", "c", "a", "d"]
    assert list(select(frame, sort="arm,-t2_loss")["run_id"]) == ["a", "c", "d", "b"]
    assert list(select(frame)["run_id"]) == list("abcd")
    with pytest.raises(StudyError, match="--sort z"):
        select(frame, sort="z")
