"""Steering studies by their storage alone, while a driver runs in another thread."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from service import read_status
from service.cli.app import main
from tests.service.driving import await_status, driving
from tests.service.tickets import Tickets
from tests.service.toy_studies import run_toy


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_pause_extend_and_resume_reach_a_running_driver(
    tmp_path: Path, tickets: Tickets, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "toy"
    with driving(out, tickets, configurations=3):
        answer = asked(capsys, "pause", str(out))
        assert answer == {"study": "toy", "uri": str(out), "asked": "pause", "driver_alive": True}
        tickets.open()
        paused = await_status(out, lambda status: status.state == "paused" and status.in_flight == 0)
        assert paused.total_done == 2
        assert asked(capsys, "extend", str(out), "--configurations", "4")["configurations"] == 4
        await_status(out, lambda status: status.planned["online"] == 4)
        assert read_status(str(out)).total_done == paused.total_done  # nothing is started in a pause
        assert main(["status", str(out)]) == 0
        assert f"go on:  t1t2 resume {out}" in capsys.readouterr().out
        assert asked(capsys, "resume", str(out))["driver_alive"] is True
    status = read_status(str(out))
    assert (status.state, status.total_done) == ("completed", 12)
    attempts = pd.read_parquet(out / "attempts.parquet")
    assert list(attempts["outcome"]) == ["completed"] * 12


def test_cancel_ends_a_driver_and_keeps_what_is_done(
    tmp_path: Path, tickets: Tickets, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "toy"
    with driving(out, tickets, configurations=8):
        assert main(["cancel", str(out)]) == 0
        assert "its driver" in capsys.readouterr().out
    status = read_status(str(out))
    assert status.state == "cancelled"
    assert len(pd.read_parquet(out / "runs.parquet")) == status.total_done < 24
    assert main(["status", str(out)]) == 0
    assert f"go on:  t1t2 resume {out}" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--failed"]], ids=["plain", "--failed"])
def test_failed_runs_are_trained_again_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    out = tmp_path / "toy"
    changes: dict[str, Any] = {
        "trainer": "tests.service.toy:failing",
        "configurations": 6,
        "grid": {},
        "arms": ["initial", "online"],
        "execution": {"failure_retries": 0},
    }
    before = run_toy(out, **changes)
    assert before.failed > 0
    assert main(["watch", str(out)]) == 1
    assert main(["status", str(out)]) == 0
    assert f"train the failed runs again:  t1t2 retry {out}\n" in capsys.readouterr().out
    assert main(["retry", str(out), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["toy trains its failed runs again; the next driver does so", f"start one:  t1t2 resume {out}"]
    run_toy(out, **changes)
    attempts = pd.read_parquet(out / "attempts.parquet").groupby("run_id")["outcome"].agg(list)
    assert sorted(map(tuple, attempts)) == sorted(
        [("failed", "failed")] * before.failed + [("completed",)] * before.completed + [("diverged",)] * before.diverged
    )


def test_a_study_that_never_ran_and_one_that_ended_tell_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_toy(tmp_path / "toy", configurations=1)
    assert main(["extend", str(tmp_path / "toy"), "--configurations", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy has 2 configurations from now on; the next driver does so"
    assert lines[1] == f"start one:  t1t2 resume {tmp_path / 'toy'}"
    assert main(["extend", str(tmp_path / "toy"), "--configurations", "0"]) == 2
    capsys.readouterr()
    (tmp_path / "three").mkdir()
    run_toy(tmp_path / "three" / "toy", configurations=3)
    assert main(["extend", str(tmp_path / "three" / "toy"), "--configurations", "2"]) == 2
    assert "configurations = 2: must be a whole number, at least the study's 3" in capsys.readouterr().err


def test_a_study_is_not_extended_beyond_what_a_driver_can_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "toy"
    run_toy(out, configurations=1)
    assert main(["extend", str(out), "--configurations", "10000000000000"]) == 2
    error = capsys.readouterr().err
    assert error == "error: configurations = 10000000000000: must be at least 1 and at most 100,000,000\n"
    assert not list(out.glob("control/*"))


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_what_no_driver_would_hear_is_not_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    out = tmp_path / "toy"
    run_toy(out, configurations=1)
    assert main([action, str(out)]) == 0
    assert capsys.readouterr().out == f"toy is completed, and no driver runs: there is nothing to {action}\n"
    assert asked(capsys, action, str(out))["driver_alive"] is False
    assert not list(out.glob("control/*"))
