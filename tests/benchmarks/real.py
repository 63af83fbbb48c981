"""The same real job by everybody: ``make bench-real``.

256 trainings with fixed hyperparameters, drawn at random: by the service, by Ray Tune, by Optuna and by a bare pool of
processes, on the same two cores. Each row is a command of its own, from its start to its end. Its time is that of a
process that imports what it needs, begins, trains, and gives the last values of every run. They must be equal, run for
run and to the last bit, or nothing is written. Runs that are trained in packs are rounded otherwise than runs alone, so
they are compared with each other.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tests.benchmarks.measure import interleaved, machine, quotients, spread, write
from tests.benchmarks.real_rows import ALONE, FINAL, FLOOR, FLOOR_OF_PACKS, PACKED, Values, study_spec
from tests.benchmarks.tuners import WORKERS
from tests.benchmarks.usage import Usage, usage

ROWS = ALONE | PACKED
JOB, START = "job", "start"  # all runs; as many as there are workers, so that hardly more than the beginning is left
KINDS = ("wall", "cpu")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def perform(row: str, out: Path, runs: int, steps: int) -> None:
    """One row, in this process: its results go to ``out``."""
    torch.set_num_threads(1)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:WORKERS])  # and all processes that it starts
    values = ROWS[row](study_spec(runs, steps), out / "work")
    (out / "values.json").write_text(json.dumps(values))


class Outcome(NamedTuple):
    """What a row took, and what it found."""

    usage: Usage
    values: list[Values]


def outcome(row: str, runs: int, steps: int) -> Outcome:
    """One row in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="real-") as directory:
        options = ["--row", row, "--out", directory, "--runs", str(runs), "--steps", str(steps)]
        taken = usage([sys.executable, "-m", "tests.benchmarks.real", *options], os.environ | ENVIRONMENT)
        values = json.loads((Path(directory) / "values.json").read_text())
    print(f"{row}: {runs} runs, {taken.wall_s:.1f} s, {taken.cpu_s:.1f} s of the processors", flush=True)
    return Outcome(taken, values)


def check_equal(found: Sequence[tuple[str, list[Values]]]) -> None:
    """Raise :class:`SystemExit` at the first value that is not the first row's, to the last bit."""
    (first, expected), *others = found
    for row, values in others:
        if len(values) != len(expected):
            raise SystemExit(f"{row} has {len(values)} runs, and {first} has {len(expected)}")
        for run, pair in enumerate(zip(values, expected, strict=True)):
            for name, one, other in zip(FINAL, *pair, strict=True):
                if repr(one) != repr(other):  # NaN is as NaN
                    raise SystemExit(f"run {run}: {name} is {one!r} by {row}, and {other!r} by {first}")


def difference_of_packs(packed: list[Values], alone: list[Values]) -> float:
    """The largest distance of a T2 loss of runs in packs from that of runs alone, as a share of it."""
    losses = (np.array(values)[:, FINAL.index("t2_loss")] for values in (packed, alone))
    return float(np.nanmax(np.abs(np.divide(*losses) - 1)))


def measure(runs: int, steps: int, repeats: int) -> dict[str, Any]:
    """The report: wall and processor seconds of every row, of the whole job and of its start alone."""
    before = {"machine": machine(), "runs": runs, "setting": study_spec(runs, steps).to_dict()}
    sizes = {JOB: runs, START: WORKERS}
    arms = {(row, size): partial(outcome, row, count, steps) for row in ROWS for size, count in sizes.items()}
    found = interleaved(arms, repeats)
    for group in (ALONE, PACKED):
        for size in sizes:
            check_equal([(row, each.values) for row in group for each in found[row, size]])
    taken = {
        (row, size, kind): [getattr(each.usage, f"{kind}_s") for each in outcomes]
        for (row, size), outcomes in found.items()
        for kind in KINDS
    }
    difference = difference_of_packs(found[FLOOR_OF_PACKS, JOB][0].values, found[FLOOR, JOB][0].values)
    return before | summary(taken, runs) | {"largest_relative_difference_of_packs": difference}


def summary(taken: Mapping[tuple[str, str, str], Sequence[float]], runs: int) -> dict[str, Any]:
    """Seconds, by row, of the job and the start; milliseconds of each run beyond the start; times the floor's seconds.

    ``taken`` holds the seconds of all repeats by row, job or start, and wall or processor. What is compared is taken
    within a repeat.
    """
    return {
        "seconds": {
            row: {f"{kind}_{size}": spread(taken[row, size, kind]) for size in (JOB, START) for kind in KINDS}
            for row in ROWS
        },
        "ms_of_a_further_run": {
            row: {
                kind: spread(
                    [
                        1000 * (job - start) / (runs - WORKERS)
                        for job, start in zip(taken[row, JOB, kind], taken[row, START, kind], strict=True)
                    ]
                )
                for kind in KINDS
            }
            for row in ROWS
        },
        "times_the_floor": {
            row: {kind: spread(quotients(taken[row, JOB, kind], taken[floor, JOB, kind])) for kind in KINDS}
            for group, floor in ((ALONE, FLOOR), (PACKED, FLOOR_OF_PACKS))
            for row in group
        },
    }


def show(report: dict[str, Any]) -> None:
    """The table: medians."""
    print(f"\n{report['runs']} trainings, equal run for run; medians")
    print(f"{'':26}{'whole job, s':>20}{'start alone, s':>20}{'a further run, ms':>20}{'job / floor':>20}")
    print(f"{'':26}" + f"{'wall':>12}{'cpu':>8}" * 4)
    for row, seconds in report["seconds"].items():
        spreads = [seconds[f"{kind}_{size}"] for size in (JOB, START) for kind in KINDS]
        spreads += [report[part][row][kind] for part in ("ms_of_a_further_run", "times_the_floor") for kind in KINDS]
        medians = [each["median"] for each in spreads]
        pairs = zip(medians[::2], medians[1::2], strict=True)
        print(f"{row:26}" + "".join(f"{wall:12.2f}{cpu:8.2f}" for wall, cpu in pairs))
    most = report["largest_relative_difference_of_packs"]
    print(f"The T2 loss of a run in a pack differs from that of the same run alone by {most:.1g} of it at most.")


def main() -> None:
    """Measure, print, write; or perform one row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=ROWS, help="this row alone, into the directory --out")
    parser.add_argument("--runs", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2000, help="inner steps of a run")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repeats of every row")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/real.json"))
    options = parser.parse_args()
    if options.row:
        perform(options.row, options.out, options.runs, options.steps)
        return
    if options.runs <= WORKERS:
        parser.error(f"--runs {options.runs}: must be more than {WORKERS}, which are the start alone")
    report = measure(options.runs, options.steps, options.repeats)
    show(report)
    write(options.out, report)


if __name__ == "__main__":
    main()
