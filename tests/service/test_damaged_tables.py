"""Damage to the Parquet files of a study: an error that names the file, or the right values, and never other ones."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import StudyError, load_study
from service import run_study
from service.client.verification import Examined, verify_study
from tests.service.driver.crashing import Crash, CrashingExecutor
from tests.service.studies import VARYING, assert_same_results, run_serially, table, toy_spec

TABLES = ("runs", "trajectories", "attempts")
KINDS = ("flipped", "cut", "emptied", "garbage", "swapped")


class Studies(NamedTuple):
    calm: Path  # finished
    broken: Path  # broken off, with shards
    other: Path  # finished, of another seed
    other_broken: Path


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Studies:
    root = tmp_path_factory.mktemp("studies")
    found = Studies(*(root / name for name in Studies._fields))
    for spec, whole, broken in ((toy_spec(), found.calm, found.broken), (toy_spec(seed=6), *found[2:])):
        run_serially(spec, whole)
        with pytest.MonkeyPatch.context() as context:
            context.setattr("service.driver.driver.TICK_S", 0.0)  # a commit after each task
            with pytest.raises(Crash):
                run_study(spec, broken, executor=CrashingExecutor(12))
    return found


def damaged(content: bytes, kind: str, seed: int, other: bytes) -> bytes:
    pick = random.Random(seed)
    if kind == "flipped":
        changed = bytearray(content)
        changed[pick.randrange(len(content))] ^= 1 << pick.randrange(8)
        return bytes(changed)
    if kind == "cut":
        return content[: pick.randrange(len(content))]
    return {"emptied": b"", "garbage": pick.randbytes(len(content)), "swapped": other}[kind]


def values(out: Path) -> dict[str, pd.DataFrame]:
    """All three tables, read in every way: frames, chosen columns, SQL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a shard that is left out
        study = load_study(out)
    found = {name: getattr(study, name) for name in TABLES}
    pd.testing.assert_series_equal(load_study_quietly(out, ["t2_loss"]), found["runs"]["t2_loss"])
    for name in TABLES:
        assert study.sql(f"SELECT count(*) AS n FROM {name}")["n"][0] == len(found[name])
    return found


def load_study_quietly(out: Path, columns: list[str]) -> pd.Series[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return load_study(out, columns=columns).runs[columns[0]]


def told(out: Path) -> dict[str, Examined]:
    return {found.path: found for found in verify_study(str(out)) if found.verdict != "sound"}


def looked_at(out: Path, name: str, expected: dict[str, pd.DataFrame]) -> str:
    """What reading the study gives after a published table was damaged: "error", "same", or "other"."""
    try:
        found = values(out)
    except StudyError as error:
        return "error" if f"{name}.parquet: is damaged" in str(error) else "another error"
    return "same" if all(found[each].equals(expected[each]) for each in TABLES) else "other"


def repaired(out: Path, studies: Studies) -> None:
    assert run_serially(toy_spec(), out).state == "completed"
    assert_same_results(out, studies.calm)
    assert not told(out)
    attempts, runs = table(out, "attempts"), table(out)
    assert set(attempts["run_id"]) == set(runs["run_id"])
    assert set(attempts["outcome"]) <= {"completed", "lost"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_published_table_is_told_and_made_anew(
    studies: Studies, tmp_path: Path, name: str, kind: str
) -> None:
    out = tmp_path / "toy"
    expected = values(studies.calm)
    for seed in range(2):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(studies.calm, out)
        path = out / f"{name}.parquet"
        path.write_bytes(damaged(path.read_bytes(), kind, seed, (studies.other / f"{name}.parquet").read_bytes()))
        assert looked_at(out, name, expected) == "error"
        assert [found.verdict for found in told(out).values()] == ["damaged"]
        assert "t1t2 resume" in told(out)[f"{name}.parquet"].repair
        repaired(out, studies)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_shard_is_left_out_and_its_runs_are_trained_again(
    studies: Studies, tmp_path: Path, name: str, kind: str
) -> None:
    out = tmp_path / "toy"
    shutil.copytree(studies.broken, out)
    calm = values(studies.calm)["runs"].drop(columns=VARYING).set_index("run_id")
    path = min((out / "ledger" / name).iterdir())
    other = min((studies.other_broken / "ledger" / name).iterdir()).read_bytes()
    path.write_bytes(damaged(path.read_bytes(), kind, 1, other))
    left = [shard for shard in (out / "ledger" / "runs").iterdir() if shard != path]
    if left:
        runs = values(out)["runs"].drop(columns=VARYING).set_index("run_id")
        pd.testing.assert_frame_equal(runs, calm.loc[runs.index], check_exact=True)
    else:
        with pytest.raises(StudyError, match="no study here"):
            values(out)
    assert [found.path for found in verify_study(str(out)) if found.verdict == "damaged"] == [
        f"ledger/{name}/{path.name}"
    ]
    repaired(out, studies)


def test_an_older_table_in_place_of_a_newer_one_is_published_anew(studies: Studies, tmp_path: Path) -> None:
    out = tmp_path / "toy"
    shutil.copytree(studies.calm, out)
    run_serially(toy_spec(configurations=4), out)
    shutil.copy(studies.calm / "attempts.parquet", out)
    assert "not the file that study.json names" in told(out)["attempts.parquet"].reason
    run_serially(toy_spec(configurations=4), out)
    assert not told(out)


def test_tables_from_before_there_were_checksums_are_read_and_told(studies: Studies, tmp_path: Path) -> None:
    out = tmp_path / "toy"
    shutil.copytree(studies.calm, out)
    for name in TABLES:
        rows = pq.read_table(out / f"{name}.parquet").replace_schema_metadata({"schema_version": "1"})
        pq.write_table(rows, out / f"{name}.parquet")
    study = json.loads((out / "study.json").read_text())
    del study["sha256"], study["tables"]["sha256"]
    (out / "study.json").write_text(json.dumps(study))
    assert set(values(out)) == set(TABLES)
    older = {path: found.verdict for path, found in told(out).items()}
    assert older == {**{f"{name}.parquet": "not checksummed" for name in TABLES}, "study.json": "not checksummed"}
    assert run_serially(toy_spec(), out).state == "completed"
    assert_same_results(out, studies.calm)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(TABLES), kind=st.sampled_from(KINDS), seed=st.integers(0, 10**6))
def test_no_damage_gives_other_values(studies: Studies, tmp_path: Path, name: str, kind: str, seed: int) -> None:
    damage_once(studies, tmp_path / "toy", name, kind, seed)


@pytest.mark.slow
@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(TABLES), kind=st.sampled_from(KINDS), seed=st.integers(0, 10**6))
def test_no_damage_gives_other_values_at_length(
    studies: Studies, tmp_path: Path, name: str, kind: str, seed: int
) -> None:
    damage_once(studies, tmp_path / "toy", name, kind, seed)


def damage_once(studies: Studies, out: Path, name: str, kind: str, seed: int) -> None:
    shutil.copytree(studies.calm, out, dirs_exist_ok=True)
    path = out / f"{name}.parquet"
    path.write_bytes(damaged(path.read_bytes(), kind, seed, (studies.other / f"{name}.parquet").read_bytes()))
    assert looked_at(out, name, values(studies.calm)) == "error"
    assert list(told(out)) == [path.name]
