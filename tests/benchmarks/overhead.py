"""What tuning by T1-T2 costs over plain training, beside a textbook loop and other libraries: ``make bench-overhead``.

784-200-200-10 ReLU perceptron on 3,000 / 1,000 / 1,000 images of MNIST, batches of 100, SGD, one outer step in ten,
λ and n0 tuned, on one core or, with ``--device cuda``, on a GPU. Every figure is the time of the training steps alone,
without loading or evaluation.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import peers, textbook
from tests.benchmarks.images import mnist
from tests.benchmarks.measure import interleaved, machine, quotients, spread, write
from tests.benchmarks.trainings import HYPERPARAMETERS, finished_at, ours, repeated
from trainers import Problem, TrainConfig, load_problem
from trainers.config import DataConfig, InnerConfig, ModelConfig, OuterConfig

OUTER_EVERY = 10

# Rows of the table, in its order.
FIXED = "ours, fixed"
ONLINE = "ours, online (t1t2, exact)"
AT_THETA = "ours, online (t1t2_at_theta)"
FORWARD = "ours, online (forward, the default)"
FORWARD_FULL = "ours, online (forward, full tangent)"
TEXTBOOK = "textbook, fixed"
TEXTBOOK_DECAY = "textbook, fixed, weight_decay of SGD"
AUTOGRAD = "textbook, online by autograd"
HIGHER = "higher, online"
TORCHOPT = "torchopt, online"
FLOOR_PRODUCTS = "floor: products of an ordinary step"
FLOOR_NOISE = "floor: noise of an ordinary step"
FLOOR_OUTER = "floor: products of one outer step"

PEERS = {HIGHER: "higher", TORCHOPT: "torchopt"}  # rows by the library that they are of
RATIOS = {
    "online_over_fixed": (ONLINE, FIXED),
    "online_over_textbook": (ONLINE, TEXTBOOK),
    "online_over_higher": (ONLINE, HIGHER),
    "online_over_torchopt": (ONLINE, TORCHOPT),
    "online_over_autograd": (ONLINE, AUTOGRAD),
    "online_over_textbook_weight_decay": (ONLINE, TEXTBOOK_DECAY),
    "at_theta_over_fixed": (AT_THETA, FIXED),
    "forward_over_fixed": (FORWARD, FIXED),
    "forward_over_textbook": (FORWARD, TEXTBOOK),
    "forward_full_over_fixed": (FORWARD_FULL, FIXED),
    "fixed_over_textbook": (FIXED, TEXTBOOK),
    "autograd_over_textbook": (AUTOGRAD, TEXTBOOK),
    "higher_over_textbook": (HIGHER, TEXTBOOK),
    "torchopt_over_textbook": (TORCHOPT, TEXTBOOK),
}


def configuration(steps: int, data: DataConfig, hidden: tuple[int, ...]) -> TrainConfig:
    """The setting of the benchmark."""
    return TrainConfig(
        data=data,
        model=ModelConfig(hidden=hidden),
        inner=InnerConfig(steps=steps, schedule="constant"),
        outer=OuterConfig(estimator="t1t2", every=OUTER_EVERY),
        record_every=steps,  # evaluate at the start and at the end only
    )


def theirs(
    problem: Problem, config: TrainConfig, outer_step: textbook.OuterStep | None, weight_decay: bool = False
) -> float:
    """Microseconds a step of the textbook loop from the same initial weights, with that outer step."""
    torch.manual_seed(1)
    model = textbook.perceptron((problem.t1[0].shape[1], *config.model.hidden, problem.classes))
    model.to(problem.t1[0].device)
    torch.nn.utils.vector_to_parameters(problem.network.initial(1).to(problem.t1[0]), model.parameters())
    t1 = textbook.batches(*problem.t1, config.inner.batch_size)
    t2 = textbook.batches(*problem.t2, config.outer.batch_size)
    log10_l2, noise_std = HYPERPARAMETERS.values()
    started = finished_at(problem.t1[0].device)
    textbook.train(
        model, t1, t2, rate=config.inner.learning_rate, steps=config.inner.steps, log10_l2=log10_l2,
        noise_std=noise_std, outer_step=outer_step, every=config.outer.every, weight_decay=weight_decay,
    )  # fmt: skip
    return (finished_at(problem.t1[0].device) - started) / config.inner.steps * 1e6


def floor(widths: tuple[int, ...], batch: int, device: torch.device) -> dict[str, list[Callable[[], object]]]:
    """Operations that a step cannot do without, each with memory of its own.

    Of an ordinary step the matrix products of a forward and a backward pass, and the noise. Of an outer step the
    products that the exact derivative adds: T2's gradient is used as Σ_b δ_b a_bᵀ and never formed, which is the
    cheaper way for a batch smaller than the layers. So: a forward pass of T2 and its δ; for each layer the Gram
    products a1 a2ᵀ and δ1 δ2ᵀ, and their products with thin matrices; the sweep of the derivative up and down the
    layers above the first; ε Wᵀ and ε a2ᵀ for the noise. The λ part needs no further product.
    """
    layers = list(pairwise(widths))

    def product(rows: int, inner: int, columns: int) -> Callable[[], object]:
        shapes = (rows, inner), (inner, columns), (rows, columns)
        a, b, out = (torch.randn(shape, device=device) for shape in shapes)
        return lambda: torch.mm(a, b, out=out)

    forward = [product(batch, n, m) for n, m in layers]
    back = [product(batch, m, n) for n, m in layers[1:]]
    weights = [product(m, batch, n) for n, m in layers]
    grams = [product(batch, width, batch) for layer in layers for width in layer]
    thin = [product(batch, batch, m) for _, m in layers] + [product(batch, batch, n) for n, _ in layers[1:]]
    noise = [product(batch, *layers[0]), product(batch, widths[0], batch)]
    return {
        FLOOR_PRODUCTS: [*forward, *back, *weights],
        FLOOR_NOISE: [torch.empty(batch, widths[0], device=device).normal_],
        FLOOR_OUTER: [*forward, *back, *grams, *thin, *forward[1:], *back, *noise],
    }


def measure(config: TrainConfig, repeats: int, device: str = "cpu") -> dict[str, object]:
    """All rows, the ratios and the floor. Rows of libraries that are not installed are left out."""
    problem = load_problem(config, device)
    absent = [name for name in PEERS.values() if importlib.util.find_spec(name) is None]
    forward = replace(config, outer=OuterConfig(estimator="forward", every=OUTER_EVERY))
    # Its default carries the tangent on a part of the steps, and on a part of each batch.
    full = replace(forward, outer=replace(forward.outer, tangent_every=1, tangent_batch=0))
    at_theta = replace(config, outer=replace(config.outer, estimator="t1t2_at_theta"))
    arms: dict[str, Callable[[], float]] = {
        FIXED: lambda: ours(problem, config, online=False),
        ONLINE: lambda: ours(problem, config, online=True),
        AT_THETA: lambda: ours(problem, at_theta, online=True),
        FORWARD: lambda: ours(problem, forward, online=True),
        FORWARD_FULL: lambda: ours(problem, full, online=True),
        TEXTBOOK: lambda: theirs(problem, config, None),
        TEXTBOOK_DECAY: lambda: theirs(problem, config, None, weight_decay=True),
        AUTOGRAD: lambda: theirs(problem, config, textbook.autograd_step),
        HIGHER: lambda: theirs(problem, config, peers.higher_step),
        TORCHOPT: lambda: theirs(problem, config, peers.torchopt_step),
    }
    widths = (problem.t1[0].shape[1], *config.model.hidden, problem.classes)
    for part, operations in floor(widths, config.inner.batch_size, problem.t1[0].device).items():
        arms[part] = partial(repeated, operations, config.inner.steps // 4 + 1, problem.t1[0].device)
    for row, library in PEERS.items():
        if library in absent:
            del arms[row]
    described = machine()
    interleaved(arms, 1)  # imports, allocator and caches
    times = interleaved(arms, repeats)
    within = {name: quotients(times[a], times[b]) for name, (a, b) in RATIOS.items() if {a, b} <= times.keys()}
    least = [1 + outer / OUTER_EVERY / fixed for outer, fixed in zip(times[FLOOR_OUTER], times[FIXED], strict=True)]
    within["floor_of_online_over_fixed"] = least
    return {
        "setting": {
            "widths": widths,
            "batch_size": config.inner.batch_size,
            "outer_every": OUTER_EVERY,
            "steps": config.inner.steps,
            "repeats": repeats,
            "forward": asdict(forward.outer),
            "data": config.data.name,
            "device": device,
        },
        "not_installed": absent,
        "machine": described,
        "microseconds_per_step": {name: spread(values) for name, values in times.items()},
        "ratios": {name: spread(values)["median"] for name, values in within.items()},
        "ratios_spread": {name: spread(values) for name, values in within.items()},
    }


def show(report: dict[str, Any]) -> None:
    """The table."""
    times = report["microseconds_per_step"]
    print(f"{'µs a step':44}{'median':>10}{'min':>10}{'max':>10}{'/ fixed':>10}{'/ textbook':>12}")
    for name, row in times.items():
        fixed, plain = (spread(quotients(row["repeats"], times[base]["repeats"])) for base in (FIXED, TEXTBOOK))
        over = "" if name == FLOOR_OUTER else f"{fixed['median']:10.3f}{plain['median']:12.3f}"
        print(f"{name:44}{row['median']:10.0f}{row['min']:10.0f}{row['max']:10.0f}{over}")
    print(f"\n{'ratio, within each repeat':44}{'median':>10}{'min':>10}{'max':>10}")
    for name, row in report["ratios_spread"].items():
        print(f"{name:44}{row['median']:10.3f}{row['min']:10.3f}{row['max']:10.3f}")
    for library in report["not_installed"]:
        print(f"{library}: not installed, so not measured")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="inner steps of one timed training")
    parser.add_argument("--repeats", type=int, default=9, help="interleaved repeats of every row")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/overhead.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = measure(configuration(options.steps, mnist(), hidden=(200, 200)), options.repeats, options.device)
    show(report)
    write(options.out, report)


if __name__ == "__main__":
    main()
