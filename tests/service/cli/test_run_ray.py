"""`t1t2 run` in processes of its own, on an embedded Ray."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from service import read_status
from tests.service.driving import await_status
from tests.service.tickets import Tickets
from tests.service.toy_studies import TOY, toml
from tests.trainers.idx import small_mnist, write_mnist

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-m", "service.cli"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Nothing of this machine's clusters; the trainers of these tests within reach."""
    names = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return {**kept, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}


def write_spec(place: Path, **changes: object) -> Path:
    values = {**TOY, "arms": ["initial", "online", "rerun"], "models": [{"hidden": [8]}], **changes}
    del values["grid"]
    place.write_text(toml(values))
    return place


@pytest.mark.slow
def test_ctrl_c_and_the_same_command_again_train_nothing_twice(tmp_path: Path, environment: dict[str, str]) -> None:
    write_spec(tmp_path / "toy.toml", trainer="tests.service.toy:ticketed", configurations=8)
    tickets = Tickets(tmp_path / "tickets")
    tickets.give(3)
    environment |= tickets.environment
    command = ["run", "toy.toml", "--actors", "2", "--no-report"]
    study = tmp_path / "studies" / "toy"
    first = subprocess.Popen(
        [*PROGRAM, *command],
        cwd=tmp_path,
        env=environment,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    await_status(study, lambda status: status.total_done == 3)
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    out, err = first.communicate(timeout=120)
    assert first.returncode == 130, err
    assert "Traceback" not in out + err
    status = read_status(str(study))
    assert status.state == "interrupted"
    assert status.total_done == 3

    *_, told, again = err.strip().splitlines()
    assert told.endswith(f"{status.total_done} of 24 runs are kept, {24 - status.total_done} are left. Go on with:")
    assert shlex.split(again) == ["t1t2", *command]
    tickets.open()
    second = subprocess.run(
        [*PROGRAM, *shlex.split(again)[1:]], cwd=tmp_path, env=environment, text=True, check=False, capture_output=True
    )
    assert second.returncode == 0, second.stderr
    assert "toy: completed, 24/24 runs (initial 8/8, online 8/8, rerun 8/8)" in second.stdout
    attempts = pd.read_parquet(study / "attempts.parquet")
    assert (attempts[attempts["outcome"] == "completed"].groupby("run_id").size() == 1).all()
    assert set(attempts["outcome"]) <= {"completed", "lost"}
    runs = pd.read_parquet(study / "runs.parquet")
    assert len(runs) == runs["run_id"].nunique() == 24

    third = subprocess.run(
        [*PROGRAM, *command, "--json"], cwd=tmp_path, env=environment, text=True, check=False, capture_output=True
    )
    assert third.returncode == 0, third.stderr
    assert json.loads(third.stdout)["state"] == "completed"
    pd.testing.assert_frame_equal(pd.read_parquet(study / "attempts.parquet"), attempts)


@pytest.mark.slow
def test_failed_runs_of_a_users_own_trainer_are_told_as_exit_code_1(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    write_spec(tmp_path / "toy.toml", trainer="mine:failing", execution={"failure_retries": 0})
    (tmp_path / "mine.py").write_text((ROOT / "tests/service/toy.py").read_text())
    script = Path(sys.executable).with_name("t1t2")
    del environment["PYTHONPATH"]
    done = subprocess.run(
        [script, "run", "toy.toml", "--out", "here", "--no-report"],
        cwd=tmp_path,
        env=environment,
        text=True,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 1, done.stderr
    failed = read_status(str(tmp_path / "here")).failed
    assert failed > 0
    lines = done.stderr.splitlines()
    assert lines[-3] == f"{failed} runs failed"
    why = shlex.split(lines[-2].partition("t1t2")[2])
    asked = subprocess.run(
        [*PROGRAM, *why, "--csv"], cwd=tmp_path, env=environment, text=True, check=True, capture_output=True
    )
    rows = asked.stdout.splitlines()
    assert len(rows) == 1 + failed
    assert "this seed is poisoned" in rows[1]


@pytest.mark.slow
def test_data_lie_beside_the_spec_and_modules_where_the_command_is_given(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Both reach the workers; afterwards the study can be resumed from anywhere."""
    write_mnist(tmp_path / "specs" / "files", small_mnist())
    spec = write_spec(
        tmp_path / "specs" / "mine.toml",
        trainer="t1t2",
        models=[{"name": "nets:net"}],
        configurations=1,
        arms=["initial", "online"],
        inner={"steps": 4, "batch_size": 10},
        outer={"every": 2, "batch_size": 10},
        data={"name": "mnist", "root": "files", "t1_size": 30, "t2_size": 10, "test_size": 20},
    )
    here = tmp_path / "here"
    here.mkdir()
    (here / "nets.py").write_text(
        "from torch import nn\n\ndef net(inputs, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(12, classes))\n"
    )
    script = Path(sys.executable).with_name("t1t2")
    del environment["PYTHONPATH"]
    done = subprocess.run(
        [script, "run", "../specs/mine.toml", "--no-report"],
        cwd=here,
        env=environment,
        text=True,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    study = here / "studies" / "toy"
    assert list(pd.read_parquet(study / "runs.parquet")["status"]) == ["completed"] * 2
    assert json.loads((study / "study.json").read_text())["spec"]["data"]["root"] == str(spec.parent / "files")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"gpus_per_actor": 1}, "1 GPU, and no node has that"),
        ({"memory_per_actor_gib": 6e4}, "GiB of memory, and no node has that"),
    ],
)
def test_resources_that_are_not_there(
    tmp_path: Path, environment: dict[str, str], execution: dict[str, float], message: str
) -> None:
    write_spec(tmp_path / "toy.toml", execution=execution)
    done = subprocess.run(
        [*PROGRAM, "run", "toy.toml"],
        cwd=tmp_path,
        env={**environment, "CUDA_VISIBLE_DEVICES": ""},
        text=True,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in error
    assert not (tmp_path / "studies" / "toy").exists()  # nothing half-made
