"""Looking at studies by their storage alone, while a driver runs in another thread and afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from service import read_status
from service.cli.app import main
from tests.service.driving import driving
from tests.service.tickets import Tickets
from tests.service.toy_studies import run_toy

ROOT = Path(__file__).parents[3]


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


def test_watch_follows_a_study_to_its_end(
    tmp_path: Path, tickets: Tickets, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "toy"

    def sleep(seconds: float) -> None:
        tickets.open()  # after the first look
        time.sleep(seconds)

    monkeypatch.setattr("service.cli.look.time", SimpleNamespace(sleep=sleep))
    with driving(out, tickets, configurations=2):
        assert main(["watch", str(out), "--every", "0.2", "--json"]) == 0
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert looks[0]["state"] == "running"
    assert looks[-1]["state"] == "completed"
    assert looks[-1]["done"] == {"initial": 2, "online": 2, "rerun": 2}
    assert main(["watch", str(out)]) == 0  # of a study that has ended: one line, and back
    assert capsys.readouterr().out.startswith("toy: completed, 6/6 runs")


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


def test_list_names_the_studies_of_a_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no study below {tmp_path}\n"
    run_toy(tmp_path / "b", name="b", configurations=1)
    run_toy(tmp_path / "a", name="a", trainer="tests.service.toy:failing", configurations=1)
    (tmp_path / "no-study").mkdir()
    (tmp_path / "file").write_text("")
    listed = json.loads(printed(capsys, "list", str(tmp_path), "--json"))
    assert [study["name"] for study in listed] == ["a", "b"]
    rows = [line.split() for line in printed(capsys, "list", str(tmp_path)).splitlines()]
    assert rows[0][:6] == ["study", "state", "done", "planned", "diverged", "failed"]
    assert [row[:4] for row in rows[1:]] == [["a", "completed", "22", "22"], ["b", "completed", "22", "22"]]


def test_without_a_sound_progress_every_command_tells_what_the_ledger_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        run_toy(tmp_path / name, name=name, configurations=1)
    (tmp_path / "b" / "progress.json").write_text("")  # as a power cut may leave it
    note = f"{tmp_path}/b/progress.json: is damaged (it is empty); the next driver writes it anew."
    told = printed(capsys, "list", str(tmp_path)).splitlines()
    assert [line.split()[:4] for line in told[1:3]] == [["a", "completed", "22", "22"], ["b", "completed", "22", "22"]]
    assert told[3].startswith(note)
    assert note in " ".join(printed(capsys, "status", str(tmp_path / "b")).split())
    watched = json.loads(printed(capsys, "watch", str(tmp_path / "b"), "--json"))
    assert (watched["state"], watched["done"]["online"], watched["completed"]) == ("completed", 2, 22)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("study.json", "", "study.json: is damaged (it is empty)"),
        ("study.json", '{"schema_version": 1}', "study.json: is damaged (lacks study_hash, spec, pack_size"),
        (
            "study.json",
            '{"schema_version": 99}',
            "study.json: written in schema version 99, this package reads up to 1",
        ),
    ],
)
def test_list_shows_a_damaged_study_among_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, reason: str
) -> None:
    run_toy(tmp_path / "a", name="a", configurations=1)
    run_toy(tmp_path / "b", name="b", configurations=1)
    (tmp_path / "b" / name).write_text(content)
    listed = json.loads(printed(capsys, "list", str(tmp_path), "--json"))
    assert [(study["name"], study["state"]) for study in listed] == [("a", "completed"), ("b", "unreadable")]
    assert listed[1]["error"].startswith(f"{tmp_path}/b/{reason}")
    assert (listed[1]["planned"], listed[1]["done"]) == ({}, {})
    told = printed(capsys, "list", str(tmp_path)).splitlines()
    assert [line.split()[:4] for line in told[1:3]] == [["a", "completed", "22", "22"], ["b", "unreadable", "0", "0"]]
    assert told[3].startswith(f"{tmp_path}/b/{reason}")
    assert main(["status", str(tmp_path / "b")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/b/{reason}")


def test_a_file_is_no_root_of_studies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    assert main(["list", str(file)]) == 2
    assert capsys.readouterr().err == (
        f"error: {file}: is a file; give the directory, or the URI, that holds the studies\n"
    )


def test_watching_ends_where_no_driver_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "toy"
    run_toy(out, configurations=1)
    progress = json.loads((out / "progress.json").read_text())
    progress.pop("sha256", None)
    progress["status"]["state"] = "running"  # and then it was killed
    (out / "progress.json").write_text(json.dumps(progress))
    assert main(["watch", str(out)]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("toy: interrupted, 22/22 runs")
    assert told.err == f"no driver runs, so nothing more happens; go on with:\n  t1t2 resume {out}\n"


@pytest.mark.parametrize("words", [["--limit", "0"], ["--limit", "0", "--json"], ["--limit", "1", "--csv"]])
def test_a_pipe_that_is_closed_early_is_no_failure(tmp_path: Path, words: list[str]) -> None:
    """As in `t1t2 results STUDY | head`: exit code 0, and no word about it."""
    run_toy(tmp_path / "toy", configurations=1)
    command = [sys.executable, "-m", "service.cli", "results", str(tmp_path / "toy"), *words]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, "")
