"""What the service adds to each run, at 100,000 runs, beside Ray Tune and Optuna. ``make bench-scale``.

Every part is a process of its own, on two actors (or workers) of one core each. Writes results/benchmarks/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from service import StudySpec, StudyStatus, run_study
from tests.benchmarks.measure import machine, write
from tests.benchmarks.tuners import (
    WORKERS,
    optuna_journal,
    optuna_sqlite,
    ray_tune,
    ray_tune_function,
    ray_tune_quiet,
    start_ray,
)

OUT = Path("results/benchmarks/scale.json")
RUNS = 100_000
LEAST_RUNS = 25_000
LONGER = 4
POOL_CALLS = 20_000
TUNE_TRIALS = (500, 5_000)  # in turn: a trial may cost more where there are many
OPTUNA_TRIALS = 2_000
SECONDS = 60  # runs of one second
ACTORS = WORKERS


def noop_spec(runs: int) -> StudySpec:
    """``runs`` runs that take no time: two arms of two models."""
    return StudySpec.from_dict(
        {
            "name": "scale",
            "configurations": runs // 4,
            "arms": ["initial", "online"],
            "models": [{"hidden": [8]}, {"hidden": [9]}],
            "trainer": "tests.benchmarks.noop:train",
            "execution": {"actors": ACTORS},
        }
    )


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def service(out: Path, runs: int) -> dict[str, Any]:
    """The study itself: time, memory and files, from the first finished run to the last."""
    marks: list[tuple[float, float, int, int, int]] = []

    def mark(status: StudyStatus) -> None:
        if status.total_done:
            files = sum(path.is_file() for path in out.rglob("*"))
            marks.append((time.perf_counter(), time.process_time(), status.total_done, resident_bytes(), files))

    started = time.perf_counter()
    status = run_study(noop_spec(runs), out, on_progress=mark)
    whole = time.perf_counter() - started
    assert status.completed == runs
    if len(marks) < 5:  # the driver tells once a second
        raise SystemExit(f"--runs {runs}: over before it can be measured; give at least {LEAST_RUNS}")
    wall, cpu, done, memory, files = (np.array(column, float) for column in zip(*marks[:-1], strict=True))
    return {
        "runs": runs,
        "actors": ACTORS,
        "wall_s": whole,
        "overhead_ms_per_run": 1000 * (wall[-1] - wall[0]) / (done[-1] - done[0]),
        "driver_cpu_ms_per_run": 1000 * (cpu[-1] - cpu[0]) / (done[-1] - done[0]),
        "driver_memory_bytes_per_run": (memory[-1] - memory[0]) / (done[-1] - done[0]),
        "driver_memory_mib_at_end": memory[-1] / 2**20,
        "most_files_while_running": int(files.max()),
        "files_at_rest": sum(path.is_file() for path in out.rglob("*")),
        "seconds_before_first_run": wall[0] - started,
        "seconds_to_publish": whole - (wall[-1] - started),
    }


def memory(out: Path, runs: int) -> dict[str, Any]:
    """The driver's memory over a study so long that its buffers and allocators have warmed up in the first half."""
    marks: list[tuple[int, int]] = []
    run_study(noop_spec(runs), out, on_progress=lambda status: marks.append((status.total_done, resident_bytes())))
    done, resident = np.array(marks[:-1], float).T  # the last is after publishing
    late = done >= runs / 2
    return {
        "runs": runs,
        "bytes_per_run_second_half": float(np.polyfit(done[late], resident[late], 1)[0]),
        "mib_at_half": float(resident[late][0] / 2**20),
        "mib_at_end": float(resident[-1] / 2**20),
    }


def resume(out: Path, runs: int) -> dict[str, Any]:
    """The same command again on the finished study, in a fresh process."""
    started = time.perf_counter()
    assert run_study(noop_spec(runs), out).total_done == runs
    return {"seconds": time.perf_counter() - started}


def load(out: Path, runs: int) -> dict[str, Any]:
    """The published runs as a frame."""
    from analysis import load_study

    started = time.perf_counter()
    assert len(load_study(str(out)).runs) == runs
    return {"seconds": time.perf_counter() - started}


def busy(out: Path, runs: int) -> dict[str, Any]:
    """How busy two actors are in the middle half of a study of one-second runs, and what the rest costs a run."""
    spec = StudySpec.from_dict(
        noop_spec(2 * runs).to_dict() | {"arms": ["initial"], "trainer": "tests.benchmarks.noop:one_second"}
    )
    run_study(spec, out)
    attempts = pq.read_table(out / "attempts.parquet").to_pandas()
    start = attempts["started_at"].astype("int64") / 1e6  # from microseconds
    end = attempts["finished_at"].astype("int64") / 1e6
    low, high = np.quantile(start, [0.25, 0.75])
    share = (np.minimum(end, high) - np.maximum(start, low)).clip(lower=0).sum() / (ACTORS * (high - low))
    waits = [
        gap
        for _, own in attempts.assign(start=start, end=end).sort_values("start").groupby("pid")
        for gap in (own["start"].to_numpy()[1:] - own["end"].to_numpy()[:-1])
    ]
    return {"runs": len(attempts), "busy_share": float(share), "median_ms_between_runs": 1000 * float(np.median(waits))}


def core_pool(out: Path, runs: int) -> dict[str, Any]:
    """The floor: a bare pool of two Ray Core actors, one call a run, two calls in flight for each."""
    import ray

    start_ray()

    @ray.remote(num_cpus=1)
    class Actor:
        def run(self, number: int) -> int:
            return number

    actors: list[Any] = [Actor.remote() for _ in range(ACTORS)]  # type: ignore[attr-defined]  # by the decorator
    ray.get([actor.run.remote(0) for actor in actors])
    started = time.perf_counter()
    flying = {actor.run.remote(0): actor for actor in actors for _ in range(2)}
    for _ in range(runs):
        done, _ = ray.wait(list(flying), num_returns=1)
        actor = flying.pop(done[0])
        ray.get(done[0])
        flying[actor.run.remote(0)] = actor
    seconds = time.perf_counter() - started
    ray.shutdown()
    return {"runs": runs, "overhead_ms_per_run": 1000 * seconds / runs}


OF_TUNE = (ray_tune, ray_tune_quiet, ray_tune_function)
OF_OPTUNA = (optuna_sqlite, optuna_journal)
PARTS = {part.__name__: part for part in (service, resume, load, memory, busy, core_pool, *OF_TUNE, *OF_OPTUNA)}


def measure(part: str, out: Path, runs: int) -> dict[str, Any]:
    """One part in a process of its own; its whole duration, imports and Ray's start included, is ``process_s``."""
    command = [sys.executable, "-m", "tests.benchmarks.scale", "--part", part, "--out", str(out), "--runs", str(runs)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{part} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["process_s"] = time.perf_counter() - started
    print(
        f"{part}: {json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()})}", flush=True
    )
    return found


def main() -> None:
    """Measure every part, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of the study: {RUNS:,} or, to try, {LEAST_RUNS:,}")
    parser.add_argument("--trials", type=int, nargs="+", default=TUNE_TRIALS, help="of Ray Tune: how many, in turn")
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part](arguments.out, arguments.runs)))
        return
    peers = [(part.__name__, trials) for part in OF_TUNE for trials in arguments.trials]
    peers += [(part.__name__, OPTUNA_TRIALS) for part in OF_OPTUNA]
    with tempfile.TemporaryDirectory(prefix="scale-") as directory:
        places = Path(directory)
        report: dict[str, Any] = {"machine": machine()}
        for part, place, runs in (
            ("service", "study", arguments.runs),
            ("resume", "study", arguments.runs),
            ("load", "study", arguments.runs),
            ("memory", "long", LONGER * arguments.runs),
            ("busy", "busy", SECONDS),
            ("core_pool", "pool", POOL_CALLS),
        ):
            report[part] = measure(part, places / place, runs)
        for part, runs in peers:
            row = f"{part}_{runs}" if part.startswith("ray_tune") else part
            report[row] = measure(part, places / row, runs)
    own = report["service"]["overhead_ms_per_run"]
    report["times_the_service"] = {
        row: found["overhead_ms_per_run"] / own
        for row, found in report.items()
        if row not in ("service", "machine") and "overhead_ms_per_run" in found
    }
    report["machine"]["load_average_at_end"] = round(os.getloadavg()[0], 2)
    write(OUT, report)


if __name__ == "__main__":
    main()
