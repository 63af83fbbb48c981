"""A driver that is stopped for longer than its lease, and goes on when another one has the study: not a byte changes.

``python -m tests.service.test_fencing SPEC OUT`` is such a driver: ``t1t2 run`` with a short lease and without Ray.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from service.storage.files import open_storage
from service.storage.lease_record import LEASE, LeaseRecord, claims, read_record
from tests.service.driving import HELD, PATIENCE_S, await_status
from tests.service.object_store import s3_server
from tests.service.studies import VARYING
from tests.service.tickets import Tickets
from tests.service.toy_studies import TOY, run_toy, toml

BEAT_S, TTL_S = 0.5, 4.0
TAKEN_OVER = 3


@dataclass
class Log:
    """What happens, and when; shown with ``pytest -s``."""

    began: float = field(default_factory=time.monotonic)

    def __call__(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:7.2f} s  {text}", flush=True)


@pytest.fixture(params=["disk", "store"])
def out(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the study lies: a directory, or a bucket of an S3 server in this process, which no signal stops."""
    if request.param == "disk":
        yield str(tmp_path / "study")
    else:
        with s3_server(monkeypatch, "studies") as store:
            yield store.uri("studies/study")


@pytest.mark.slow
def test_a_driver_that_goes_on_after_its_lease_changes_not_a_byte(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, tickets = Log(), Tickets(tmp_path / "tickets")
    monkeypatch.setenv("TOY_TICKETS", str(tickets.directory))  # of the calm run
    spec = tmp_path / "spec.toml"
    changes = HELD | {"configurations": 6}
    spec.write_text(toml(TOY | changes))
    log(f"the study lies in {out.partition('?')[0]}; a beat every {BEAT_S} s, dead after {TTL_S} s")
    tickets.give(6)
    with _driver(spec, out, tmp_path / "first.log", tickets) as first, _stopping(first):
        before = await_status(out, lambda status: status.total_done >= 2)
        _stop_after_beat(first, out)
        log(f"driver {first.pid} has lease {_number(out)} and {before.total_done} runs; it is stopped")
        with _driver(spec, out, tmp_path / "second.log", tickets) as second, _stopping(second):
            _await(lambda: _holder(out).pid == second.pid, "the second driver takes over")
            log(f"driver {second.pid} has taken the study, as lease {_number(out)}")
            tickets.give(6)
            status = await_status(
                out, lambda status: status.driver.endswith(f":{second.pid}") and status.total_done > before.total_done
            )
            _stop_after_beat(second, out)
            log(f"it has {status.total_done} runs, and is stopped, so that nobody else writes")
            files = _snapshot(out)
            log(f"{len(files)} files, {hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]}")
            tickets.open()
            first.send_signal(signal.SIGCONT)
            code = first.wait(PATIENCE_S)
            said = (tmp_path / "first.log").read_text()
            log(f"driver {first.pid} went on, and ended with exit code {code}: {said.strip().splitlines()[-1]}")
            after = _snapshot(out)
            log(f"{len(after)} files, {hashlib.sha256(repr(sorted(after.items())).encode()).hexdigest()[:16]}")
            assert after == files
            assert code == TAKEN_OVER, said
            assert f":{second.pid} has taken this study over" in said
            assert "Traceback" not in said
            second.send_signal(signal.SIGCONT)
            assert second.wait(PATIENCE_S) == 0, (tmp_path / "second.log").read_text()
            log(f"driver {second.pid} went on, and ended with exit code 0")
    assert claims(open_storage(out)) == [2]
    run_toy(tmp_path / "calm", **changes)
    for name in ("runs", "trajectories"):
        pd.testing.assert_frame_equal(_table(out, name), _table(str(tmp_path / "calm"), name), check_exact=True)
    log("the tables are those of a calm run")


# -- drivers


def _driver(spec: Path, out: str, log: Path, tickets: Tickets) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.service.test_fencing", str(spec), out],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[2],
            env=os.environ | tickets.environment,
        )


class _stopping:  # reads as the statement that it is
    """Kills a driver at the block's end if it is still there, stopped or not."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _stop_after_beat(process: subprocess.Popen[bytes], out: str) -> None:
    """Stop it when it has just beaten and waits, with all threads, for the next beat or a ticket."""
    beats = _holder(out).beats
    _await(lambda: _holder(out).beats != beats, "a beat")
    time.sleep(BEAT_S / 4)  # for the look that follows a beat
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.2)


# -- the study's files


def _holder(out: str) -> LeaseRecord:
    record = read_record(open_storage(out), LEASE)
    assert record is not None
    return record


def _number(out: str) -> int:
    return _holder(out).number


def _snapshot(out: str) -> dict[str, Any]:
    """Every file, temporary ones too, with its content's hash and the time of its last change."""
    filesystem, root = fs.FileSystem.from_uri(out if "://" in out else f"file://{out}")
    found = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    return {
        info.path: (hashlib.sha256(filesystem.open_input_stream(info.path).read()).hexdigest(), info.mtime_ns)
        for info in found
        if info.type == fs.FileType.File
    }


def _table(out: str, name: str) -> pd.DataFrame:
    with open_storage(out).open(f"{name}.parquet") as file:
        frame: pd.DataFrame = pq.read_table(file).to_pandas()
    return frame.drop(columns=VARYING, errors="ignore")


def _await(reached: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < end, f"{what} within {PATIENCE_S:.0f} s"
        time.sleep(0.02)


def _main(spec: str, out: str) -> int:
    import service.driver.run
    from service.cli.app import main
    from service.executors.serial import SerialExecutor
    from service.storage.lease import Lease

    service.driver.run.Lease = partial(Lease, beat_s=BEAT_S, ttl_s=TTL_S)  # type: ignore[assignment, attr-defined]
    service.driver.run.run_study = partial(service.driver.run.run_study, executor=SerialExecutor())
    return main(["run", spec, "--out", out, "--no-report"])


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
