"""Two checkouts of this project side by side: is a step, or a run through the driver, slower than it was?

    git worktree add ../before COMMIT
    python -m tests.benchmarks.checkouts ../before

Each repeat measures both, every one by its own code in a process of its own; the first of a repeat is the second of the
next. Prints medians, and the ratio of this checkout to the other within each repeat. Writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
NETWORKS = ((32,), (64,), (200, 200))  # hidden layers of 784-…-10
ARMS = {"fixed": ("t1t2", False), "t1t2": ("t1t2", True), "forward, the default": ("forward", True)}
RUNS = 40_000  # through the driver


def step_times(steps: int) -> Iterator[tuple[str, float]]:
    """Microseconds a step of one member, for each network, arm and size of the pack."""
    import torch

    from trainers import Member, Result, TrainConfig, load_problem, train
    from trainers.config import DataConfig, InnerConfig, ModelConfig, OuterConfig

    torch.set_num_threads(1)
    for hidden in NETWORKS:
        for arm, (estimator, online) in ARMS.items():
            config = TrainConfig(
                data=DataConfig("mnist5k", 3000, 1000, 1000),
                model=ModelConfig(hidden=hidden),
                inner=InnerConfig(steps=steps),
                outer=OuterConfig(estimator=estimator),  # type: ignore[arg-type]
                record_every=steps,
            )
            problem = load_problem(config)
            for pack in (1, 8):
                start = {"log10_l2": -4.0, "input_noise_std": 0.3}
                records = train(problem, config, [Member(i, start) for i in range(pack)], online=online)
                result = next(record for record in records if isinstance(record, Result))
                name = f"784-{'-'.join(map(str, hidden))}-10, {arm}, P = {pack}: µs a step and member"
                yield name, 1e6 * result.train_time_s / steps


def driver_times() -> Iterator[tuple[str, float]]:
    """Milliseconds a run that the driver adds, on two Ray actors, from the first finished runs to the last."""
    from service import StudySpec, StudyStatus, run_study

    values = {
        "name": "driver", "configurations": RUNS // 4, "arms": ["initial", "online"],
        "models": [{"hidden": [8]}, {"hidden": [9]}], "trainer": "tests.benchmarks.noop:train",
        "execution": {"actors": 2},
    }  # fmt: skip
    marks: list[tuple[float, float, int]] = []

    def mark(status: StudyStatus) -> None:
        if status.total_done:
            marks.append((time.perf_counter(), time.process_time(), status.total_done))

    with tempfile.TemporaryDirectory() as out:
        run_study(StudySpec.from_dict(values), Path(out) / "study", on_progress=mark)
    (wall, cpu, done), (last_wall, last_cpu, last_done) = marks[0], marks[-2]  # the last one is after publishing
    yield "driver: ms of wall a run", 1e3 * (last_wall - wall) / (last_done - done)
    yield "driver: ms of CPU a run", 1e3 * (last_cpu - cpu) / (last_done - done)


def measured(checkout: Path, kind: str, steps: int) -> dict[str, float]:
    """What ``checkout`` measures of itself, in a process of its own."""
    command = [sys.executable, str(HERE), "--measure", kind, "--steps", str(steps)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(other: Path, kinds: list[str], repeats: int, steps: int) -> None:
    """Measure both, in turn, and print the medians and the ratios."""
    from tests.benchmarks.measure import quotients, spread

    for kind in kinds:
        found: dict[Path, list[dict[str, float]]] = {ROOT: [], other: []}
        for repeat in range(repeats):
            for checkout in (ROOT, other) if repeat % 2 else (other, ROOT):
                found[checkout].append(measured(checkout, kind, steps))
        for name in found[ROOT][0]:
            ours, theirs = ([values[name] for values in found[checkout]] for checkout in (ROOT, other))
            ratio: dict[str, Any] = spread(quotients(ours, theirs))
            print(
                f"{name:64} {spread(ours)['median']:9.3f} here, {spread(theirs)['median']:9.3f} there, "
                f"ratio {ratio['median']:.3f} [{ratio['min']:.3f}, {ratio['max']:.3f}]"
            )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, nargs="?", help="the other checkout")
    parser.add_argument("--only", choices=("steps", "driver"), help="measure one of the two alone")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--measure", choices=("steps", "driver"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        times = step_times(options.steps) if options.measure == "steps" else driver_times()
        print(json.dumps(dict(times)))
    elif options.other is None:
        parser.error("name the other checkout")
    else:
        kinds = [options.only] if options.only else ["steps", "driver"]
        compare(options.other.resolve(), kinds, options.repeats, options.steps)


if __name__ == "__main__":
    main()
