"""The processes in which searches run: each takes one core, and ends with the one that began it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch

from service.errors import StudyError
from service.tune.baselines.search import Search, run_search
from service.tune.baselines.trials import Trial

MOST_LOSSES = 3  # of processes, before it is taken for the searches' own doing
QUIET = {  # nobody reads what Tune would write of a search: its rows are taken as it runs
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_worker_niceness": "0",  # by default a trial yields to all else, and its seconds would be others'
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
}
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def run_searches(searches: Sequence[Search], processes: int, on_end: Callable[[Search, list[Trial]], None]) -> None:
    """Run them, ``processes`` at a time, and hand over each that has ended, in this process.

    A process that dies takes its search along, which is run again. Raises :class:`service.StudyError` where that
    happens again and again, and whatever a search or ``on_end`` raises.
    """
    left = list(searches)
    losses = 0
    while left:
        try:
            for search, trials in _run(tuple(left), processes):
                on_end(search, trials)
                left.remove(search)
        except BrokenProcessPool:
            losses += 1
            if losses == MOST_LOSSES:
                raise StudyError(
                    f"baselines: {losses} processes that ran searches have died, perhaps for want of memory; what has "
                    "ended is kept, and the same command goes on with the rest (with fewer --processes, if need be)"
                ) from None


def _run(searches: Sequence[Search], processes: int) -> Iterator[tuple[Search, list[Trial]]]:
    """Each search that has ended, and its trials. Raises BrokenProcessPool where a process dies."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(searches)), context, initializer=_begin)
    try:
        flying = {pool.submit(run_search, search): search for search in searches}
        for future in as_completed(flying):
            yield flying[future], future.result()
        pool.shutdown()
    finally:
        alive = list((pool._processes or {}).values())  # none after a shutdown
        pool.shutdown(wait=False, cancel_futures=True)
        for process in alive:
            process.kill()  # its Ray ends with it; nothing is lost but the time of a search that was under way


def _begin() -> None:
    """Make a new process ready for searches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that began it
    die_with_parent()
    os.environ.update(QUIET)
    torch.set_num_threads(1)


def die_with_parent() -> None:
    """Let this process be killed when the one that began it dies, however it dies; Linux alone can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
