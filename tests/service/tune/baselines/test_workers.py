"""The processes of searches: one that dies takes nothing along for good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service import StudyError
from service.tune.baselines import workers
from service.tune.baselines.search import Search
from service.tune.baselines.trials import Trial
from tests.service.tune.baselines.settings import COSTS, small_spec

DIES = "T1T2_TEST_DIES"  # an environment variable: a file whose absence is the sign to die, or "always"


def dying(search: Search) -> list[Trial]:
    """In place of a search: one repetition kills its process, once or always."""
    sign = os.environ[DIES]
    if search.repetition == 2 and not (sign != "always" and Path(sign).exists()):
        if sign != "always":
            Path(sign).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return [Trial(arm="online", number=0, seed=search.repetition, initial={})]


def begin() -> None:
    """In place of a Ray, which these searches do not need."""


def searches(count: int) -> list[Search]:
    spec = small_spec()
    return [
        Search(spec=spec, model="mlp-8", method="online", repetition=number, trainings=1, costs=COSTS)
        for number in range(count)
    ]


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "run_search", dying)
    monkeypatch.setattr(workers, "_begin", begin)


def test_a_search_whose_process_dies_is_run_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(DIES, str(tmp_path / "died"))
    ended: list[int] = []
    workers.run_searches(searches(5), 2, lambda search, trials: ended.append(trials[0].seed))
    assert sorted(ended) == [0, 1, 2, 3, 4]
    assert (tmp_path / "died").exists()


def test_one_that_always_dies_ends_all_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIES, "always")
    ended: list[int] = []
    with pytest.raises(StudyError, match=r"3 processes that ran searches have died.*the same command goes on"):
        workers.run_searches(searches(3), 1, lambda search, trials: ended.append(trials[0].seed))
    assert ended == [0, 1]


def test_a_process_ends_with_its_parent() -> None:
    if sys.platform != "linux":
        pytest.skip("asks the kernel of Linux for it")
    code = (
        "import multiprocessing, os, signal, time\n"
        "from service.tune.baselines.workers import die_with_parent\n"
        "def child(pipe):\n"
        "    die_with_parent()\n"
        "    pipe.send(os.getpid())\n"
        "    time.sleep(60)\n"
        "here, there = multiprocessing.Pipe()\n"
        "process = multiprocessing.get_context('fork').Process(target=child, args=(there,))\n"
        "process.start()\n"
        "print(here.recv(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False, timeout=30)
    assert ran.returncode == -signal.SIGKILL  # the pipe of its output has closed: no child holds it any more
    child = Path(f"/proc/{ran.stdout.strip()}/stat")
    for _ in range(300):  # it closes its files a moment before it is gone
        if is_dead(child):
            break
        time.sleep(0.1)
    assert is_dead(child)


def is_dead(stat: Path) -> bool:
    """Whether this process has ended, though its new parent may not have asked how."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
