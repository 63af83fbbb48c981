"""How many runs a second one core, and one GPU, trains when P of them are packed: ``make bench-packing``.

On the CPU (one core) 64-unit perceptrons on the 8×8 digits, on a GPU, where there is one, 784-200-200-10 perceptrons on
MNIST. The yardstick on each is the textbook loop, which trains with fixed hyperparameters, one run at a time. A run is
``--steps`` inner steps and one evaluation of T2; loading and the drawing of initial weights are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks import textbook
from tests.benchmarks.images import mnist
from tests.benchmarks.measure import interleaved, machine, quotients, spread, write
from trainers import ConfigError, Member, Point, Problem, TrainConfig, load_problem, train
from trainers.config import DataConfig, EstimatorName, InnerConfig, ModelConfig, OuterConfig

TEXTBOOK = "textbook, fixed, one at a time"
DEFAULT = OuterConfig().estimator
KINDS: dict[str, tuple[EstimatorName, bool]] = {
    "fixed": ("t1t2", False),
    "online (t1t2)": ("t1t2", True),
    f"online ({DEFAULT}, the default)": (DEFAULT, True),
}
TARGETS = {"cpu": 3.0, "cuda": 100.0}  # times the textbook's runs a second


def configuration(device: str, steps: int) -> TrainConfig:
    """The setting for a device: digits on a CPU, MNIST on a GPU."""
    hidden: tuple[int, ...]
    if device == "cpu":
        data, hidden = DataConfig("digits", t1_size=1000, t2_size=397, test_size=400), (64,)
    else:
        data, hidden = mnist(), (200, 200)
    return TrainConfig(
        data=data,
        model=ModelConfig(hidden=hidden),
        inner=InnerConfig(steps=steps, schedule="constant"),
        record_every=steps,
    )


def packed(problem: Problem, config: TrainConfig, members: int, online: bool) -> float:
    """Runs a second of a pack: from the evaluation at step 0 to the one at the end, so that a GPU has finished."""
    draw = np.random.default_rng(1)
    pack = [
        Member(seed, {"log10_l2": draw.uniform(-5.5, -2.5), "input_noise_std": draw.uniform(0.0, 0.8)})
        for seed in range(members)
    ]
    started = 0.0
    for record in train(problem, config, pack, online=online):
        if isinstance(record, Point) and record.step == 0:
            started = time.perf_counter()
        elif isinstance(record, Point):
            break
    return members / (time.perf_counter() - started)


def one_at_a_time(problem: Problem, config: TrainConfig) -> float:
    """Runs a second of the textbook loop with fixed hyperparameters."""
    torch.manual_seed(1)
    x, y = problem.t1
    model = textbook.perceptron((x.shape[1], *config.model.hidden, problem.classes)).to(x.device)
    textbook.evaluate(model, *problem.t2)
    started = time.perf_counter()
    t1 = textbook.batches(x, y, config.inner.batch_size)
    rate, steps = config.inner.learning_rate, config.inner.steps
    textbook.train(model, t1, iter(()), rate=rate, steps=steps, log10_l2=-4.0, noise_std=0.3)
    textbook.evaluate(model, *problem.t2)  # a number: waits for a GPU
    return 1 / (time.perf_counter() - started)


def sizes(largest: int) -> list[int]:
    """1, 2, 4, … up to the largest."""
    return [2**i for i in range(largest.bit_length())]


def measure(device: str, steps: int, largest: int, repeats: int) -> dict[str, Any]:
    """Runs a second by kind of training and P, with their spread and their ratio to the textbook's."""
    config = configuration(device, steps)
    problem = load_problem(config, device)
    arms: dict[tuple[str, int], Callable[[], float]] = {(TEXTBOOK, 1): partial(one_at_a_time, problem, config)}
    refused: dict[str, str] = {}
    for kind, (estimator, online) in KINDS.items():
        tuned = replace(config, outer=replace(config.outer, estimator=estimator))
        warm = replace(tuned, inner=replace(tuned.inner, steps=2 * config.outer.every), record_every=steps)
        for members in sizes(largest):
            try:
                packed(problem, warm, members, online)
            except (ConfigError, torch.OutOfMemoryError) as error:
                refused[kind] = f"P = {members}: {str(error).splitlines()[0]}"
                break
            arms[kind, members] = partial(packed, problem, tuned, members, online)
    rates = interleaved(arms, repeats)
    report: dict[str, Any] = {"setting": asdict(config), "did_not_fit": refused}
    for (kind, members), values in rates.items():
        measured = {
            "runs_per_second": spread(values)["median"],
            "spread": spread(values),
            "ratio_to_textbook": spread(quotients(values, rates[TEXTBOOK, 1])),
        }
        for name, value in measured.items():
            report.setdefault(name, {}).setdefault(kind, {})[str(members)] = value
    return report


def show(device: str, report: dict[str, Any]) -> None:
    """The table of one device."""
    widths = report["setting"]["model"]["hidden"]
    print(
        f"\n{device}: {report['setting']['data']['name']}, hidden layers {list(widths)}, "
        f"{report['setting']['inner']['steps']} steps a run"
    )
    print(f"{'':36}{'P':>6}{'runs/s':>10}{'min':>10}{'max':>10}{'/ textbook':>12}{'min':>8}{'max':>8}")
    for kind, by_members in report["spread"].items():
        for members, row in by_members.items():
            over = report["ratio_to_textbook"][kind][members]
            print(
                f"{kind:36}{members:>6}{row['median']:10.2f}{row['min']:10.2f}{row['max']:10.2f}"
                f"{over['median']:12.2f}{over['min']:8.2f}{over['max']:8.2f}"
            )
    for kind, reason in report["did_not_fit"].items():
        print(f"{kind}: {reason}")
    for kind, by_members in report["ratio_to_textbook"].items():
        if kind != TEXTBOOK:
            best = max(by_members, key=lambda members: by_members[members]["median"])
            print(
                f"{kind}: at best {by_members[best]['median']:.2f} times the textbook, at P = {best} "
                f"(target {TARGETS[device]:g})"
            )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500, help="inner steps of a run")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repeats of every row")
    parser.add_argument("--largest-on-cpu", type=int, default=64)
    parser.add_argument("--largest-on-gpu", type=int, default=4096, help="or what fits its memory")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/packing.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {"machine": machine(), "runs_per_second": {}}
    largest = {"cpu": options.largest_on_cpu}
    if torch.cuda.is_available():
        largest["cuda"] = options.largest_on_gpu
    for device, members in largest.items():
        report[device] = measure(device, options.steps, members, options.repeats)
        report["runs_per_second"][device] = report[device].pop("runs_per_second")
        show(device, report[device])
    if "cuda" not in largest:
        report["cuda"] = None
        print("\ncuda: no GPU here, so no GPU figure was measured; the same command measures one where torch sees it.")
    write(options.out, report)


if __name__ == "__main__":
    main()
