"""How fast any ``nn.Module`` trains, beside a textbook loop on the same network: ``make bench-modules``.

A convolutional network with 8 and 16 channels on 3,000 / 1,000 / 1,000 images of MNIST, batches of 100, SGD, one outer
step in ten, λ and n0 tuned, one core. Every figure is the time of the training steps alone, for one member of a pack.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import textbook
from tests.benchmarks.measure import interleaved, machine, quotients, spread, write
from tests.benchmarks.trainings import HYPERPARAMETERS, ours
from trainers import Problem, TrainConfig, load_problem
from trainers.config import DataConfig, InnerConfig, ModelConfig, OuterConfig

PACK = 8

# Rows of the table, in its order.
TEXTBOOK = "textbook, fixed"
TEXTBOOK_LAST = "textbook, fixed, channels last in memory"
AUTOGRAD = "textbook, online by autograd"
FIXED = "ours, fixed"
PACKED = f"ours, fixed, a member of a pack of {PACK}"
ONLINE = "ours, online (t1t2)"
DEFAULT = f"ours, online ({OuterConfig().estimator}, the default)"

RATIOS = {
    "fixed_over_textbook": (FIXED, TEXTBOOK),
    "fixed_over_textbook_channels_last": (FIXED, TEXTBOOK_LAST),
    "online_over_textbook": (ONLINE, TEXTBOOK),
    "online_over_textbook_channels_last": (ONLINE, TEXTBOOK_LAST),
    "online_over_autograd": (ONLINE, AUTOGRAD),
    "online_over_fixed": (ONLINE, FIXED),
    "default_over_fixed": (DEFAULT, FIXED),
    "default_over_textbook": (DEFAULT, TEXTBOOK),
    "packed_over_fixed": (PACKED, FIXED),
}


def configuration(steps: int, data: DataConfig, channels: tuple[int, ...]) -> TrainConfig:
    """The setting of the benchmark."""
    return TrainConfig(
        data=data,
        model=ModelConfig("cnn", channels=channels),
        inner=InnerConfig(steps=steps, schedule="constant"),
        outer=OuterConfig(estimator="t1t2", every=10),
        record_every=steps,  # evaluate at the start and at the end only
    )


def theirs(
    problem: Problem, config: TrainConfig, outer_step: textbook.OuterStep | None = None, *, channels_last: bool = False
) -> float:
    """Microseconds a step of the textbook loop from the same initial weights, with that outer step."""
    torch.manual_seed(1)
    model = textbook.convolutional(tuple(problem.t1[0].shape[1:]), config.model.channels, problem.classes)
    torch.nn.utils.vector_to_parameters(problem.network.initial(1).float(), model.parameters())
    if channels_last:
        for parameter in model.parameters():
            if parameter.dim() == 4:  # from the kernels the images take over the order
                parameter.data = parameter.data.to(memory_format=torch.channels_last)
    t1 = textbook.batches(*problem.t1, config.inner.batch_size)
    t2 = textbook.batches(*problem.t2, config.outer.batch_size)
    log10_l2, noise_std = HYPERPARAMETERS.values()
    started = time.perf_counter()
    textbook.train(
        model, t1, t2, rate=config.inner.learning_rate, steps=config.inner.steps, log10_l2=log10_l2,
        noise_std=noise_std, outer_step=outer_step, every=config.outer.every,
    )  # fmt: skip
    return (time.perf_counter() - started) / config.inner.steps * 1e6


def measure(config: TrainConfig, repeats: int) -> dict[str, object]:
    """All rows and the ratios."""
    problem = load_problem(config)
    default = replace(config, outer=OuterConfig(every=config.outer.every))
    problem_of_default = load_problem(default)
    arms: dict[str, Callable[[], float]] = {
        TEXTBOOK: lambda: theirs(problem, config),
        TEXTBOOK_LAST: lambda: theirs(problem, config, channels_last=True),
        AUTOGRAD: lambda: theirs(problem, config, textbook.autograd_step),
        FIXED: lambda: ours(problem, config, online=False),
        PACKED: lambda: ours(problem, config, online=False, members=PACK),
        ONLINE: lambda: ours(problem, config, online=True),
        DEFAULT: lambda: ours(problem_of_default, default, online=True),
    }
    described = machine()
    interleaved(arms, 1)  # imports, allocator and caches
    times = interleaved(arms, repeats)
    within = {name: spread(quotients(times[a], times[b])) for name, (a, b) in RATIOS.items()}
    return {
        "setting": {"config": asdict(config), "default": asdict(default.outer), "pack": PACK, "repeats": repeats},
        "machine": described,
        "microseconds_per_step": {name: spread(values) for name, values in times.items()},
        "ratios": {name: row["median"] for name, row in within.items()},
        "ratios_spread": within,
    }


def show(report: dict[str, Any]) -> None:
    """The table."""
    for title, rows, digits in (
        ("µs a step", report["microseconds_per_step"], 0), ("ratio, within each repeat", report["ratios_spread"], 3),
    ):  # fmt: skip
        print(f"\n{title:44}{'median':>10}{'min':>10}{'max':>10}")
        for name, row in rows.items():
            print(f"{name:44}" + "".join(f"{row[part]:10.{digits}f}" for part in ("median", "min", "max")))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="inner steps of one timed training")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats of every row")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/modules.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = DataConfig("mnist5k", t1_size=3000, t2_size=1000, test_size=1000)
    report = measure(configuration(options.steps, data, channels=(8, 16)), options.repeats)
    show(report)
    write(options.out, report)


if __name__ == "__main__":
    main()
