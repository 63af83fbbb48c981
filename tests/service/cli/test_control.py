"""Steering studies by their storage alone, while a driver runs in another thread."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from service import StudyStatus, read_status
from service.cli.app import main
from service.errors import StudyNotFoundError
from tests.service.tickets import Tickets
from tests.service.toy_studies import run_toy

ROOT = Path(__file__).parents[3]
HELD: dict[str, Any] = {
    "trainer": "tests.service.toy:ticketed",
    "arms": ["initial", "online", "rerun"],
    "grid": {},
    "models": [{"hidden": [8]}],
}


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tickets:
    """What the runs of these studies wait for. Their driver looks for requests after each of them."""
    monkeypatch.setattr("service.driver.driver.TICK_S", 0.0)
    found = Tickets(tmp_path / "tickets")
    monkeypatch.setenv("TOY_TICKETS", str(found.directory))
    return found


@contextmanager
def driving(out: Path, tickets: Tickets, **changes: Any) -> Iterator[None]:
    """A driver, after the first run of a study and in the middle of the second; the block's end waits for its end."""
    failures: list[BaseException] = []

    def drive() -> None:
        try:
            run_toy(out, **HELD, **changes)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=drive)
    tickets.give(1)
    thread.start()
    try:
        await_status(out, lambda status: status.total_done == 1)
        yield
    finally:
        tickets.open()
        thread.join()
    assert not failures, failures


def await_status(out: Path, reached: Callable[[StudyStatus], object]) -> StudyStatus:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            status = read_status(str(out))
            if reached(status):
                return status
        except StudyNotFoundError:
            pass
        time.sleep(0.05)
    raise AssertionError("the study does not get there within a minute")


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


def test_watch_follows_a_study_to_its_end(
    tmp_path: Path, tickets: Tickets, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "toy"

    def sleep(seconds: float) -> None:
        tickets.open()  # after the first look
        time.sleep(seconds)

    monkeypatch.setattr("service.cli.control.time", SimpleNamespace(sleep=sleep))
    with driving(out, tickets, configurations=2):
        assert main(["watch", str(out), "--every", "0.2", "--json"]) == 0
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert looks[0]["state"] == "running"
    assert looks[-1]["state"] == "completed"
    assert looks[-1]["done"] == {"initial": 2, "online": 2, "rerun": 2}
    assert main(["watch", str(out)]) == 0  # of a study that has ended: one line, and back
    assert capsys.readouterr().out.startswith("toy: completed, 6/6 runs")


def test_failed_runs_are_trained_again_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert f"t1t2 retry {out} --failed" in capsys.readouterr().out
    assert main(["retry", str(out), "--failed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["toy trains its failed runs again; when a driver runs again", f"start one:  t1t2 resume {out}"]
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
    assert lines[0] == "toy has 2 configurations from now on; when a driver runs again"
    assert lines[1] == f"start one:  t1t2 resume {tmp_path / 'toy'}"
    assert main(["extend", str(tmp_path / "toy"), "--configurations", "0"]) == 2
    capsys.readouterr()
    (tmp_path / "three").mkdir()
    run_toy(tmp_path / "three" / "toy", configurations=3)
    assert main(["extend", str(tmp_path / "three" / "toy"), "--configurations", "2"]) == 2
    assert "configurations = 2: must be a whole number, at least the study's 3" in capsys.readouterr().err


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


def test_list_names_the_studies_of_a_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no study below {tmp_path}\n"
    run_toy(tmp_path / "b", name="b", configurations=1)
    run_toy(tmp_path / "a", name="a", trainer="tests.service.toy:failing", configurations=1)
    (tmp_path / "no-study").mkdir()
    (tmp_path / "file").write_text("")
    listed = json.loads(_printed(capsys, "list", str(tmp_path), "--json"))
    assert [study["name"] for study in listed] == ["a", "b"]
    rows = [line.split() for line in _printed(capsys, "list", str(tmp_path)).splitlines()]
    assert rows[0][:6] == ["study", "state", "done", "planned", "diverged", "failed"]
    assert [row[:4] for row in rows[1:]] == [["a", "completed", "22", "22"], ["b", "completed", "22", "22"]]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("study.json", "", "study.json: is damaged (Invalid JSON: EOF while parsing a value at line 1 column 0)"),
        ("study.json", '{"schema_version": 1}', "study.json: is damaged (lacks study_hash, spec, pack_size"),
        (
            "study.json",
            '{"schema_version": 99}',
            "study.json: written in schema version 99, this package reads up to 1",
        ),
        ("progress.json", '{"status": {"done": 3}}', "progress.json: is damaged (lacks status.name"),
    ],
)
def test_list_shows_a_damaged_study_among_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, reason: str
) -> None:
    run_toy(tmp_path / "a", name="a", configurations=1)
    run_toy(tmp_path / "b", name="b", configurations=1)
    (tmp_path / "b" / name).write_text(content)
    listed = json.loads(_printed(capsys, "list", str(tmp_path), "--json"))
    assert [(study["name"], study["state"]) for study in listed] == [("a", "completed"), ("b", "unreadable")]
    assert listed[1]["error"].startswith(f"{tmp_path}/b/{reason}")
    assert (listed[1]["planned"], listed[1]["done"]) == ({}, {})
    told = _printed(capsys, "list", str(tmp_path)).splitlines()
    assert [line.split()[:4] for line in told[1:3]] == [["a", "completed", "22", "22"], ["b", "unreadable", "0", "0"]]
    assert told[3].startswith(f"{tmp_path}/b/{reason}")
    assert main(["status", str(tmp_path / "b")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/b/{reason}")


def _printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


def test_ctrl_c_ends_the_watching_and_not_the_study(tmp_path: Path, tickets: Tickets) -> None:
    out = tmp_path / "toy"
    with driving(out, tickets, configurations=4):
        watcher = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "watch", str(out), "--every", "0.2"],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert watcher.stdout is not None
        assert watcher.stdout.readline().startswith("toy: running, ")
        watcher.send_signal(signal.SIGINT)
        _, err = watcher.communicate(timeout=60)
        assert watcher.returncode == 130
        assert err == "no longer watching; the study is running\n"
    assert read_status(str(out)).state == "completed"
