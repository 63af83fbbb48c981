"""How far a fixed step is from what this machine can do: ``make bench-fixed-step``.

784-32-10, 784-64-10 and 784-200-200-10 ReLU perceptrons on images of MNIST, batches of 100, SGD, alone and in packs of
8, one core. The floor is the time of the operations that no implementation of the same step can leave out, each timed
by itself, again and again on the same memory, so that it finds there what the processor's cache can hold.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.images import mnist
from tests.benchmarks.measure import interleaved, machine, quotients, spread, write
from tests.benchmarks.trainings import ours, repeated
from trainers import Problem, TrainConfig, load_problem
from trainers.config import DataConfig, InnerConfig, ModelConfig
from trainers.noise import Noise

NETWORKS = ((32,), (64,), (200, 200))  # the hidden layers
PACKS = (1, 8)
OURS = "ours"
FLOAT = 4  # bytes


def configuration(steps: int, data: DataConfig, hidden: tuple[int, ...]) -> TrainConfig:
    """The setting of the benchmark."""
    return TrainConfig(
        data=data,
        model=ModelConfig(hidden=hidden),
        inner=InnerConfig(steps=steps, schedule="constant"),
        record_every=steps,  # evaluate at the start and at the end only
    )


def widths_of(problem: Problem, config: TrainConfig) -> tuple[int, ...]:
    """The numbers of inputs, hidden units and classes."""
    return (problem.t1[0].shape[1], *config.model.hidden, problem.classes)


def operations(problem: Problem, config: TrainConfig, members: int) -> dict[str, Callable[[], object]]:
    """The parts of the floor. The noise is drawn as :mod:`trainers.noise` does, which is faster than torch's."""
    batch, widths = config.inner.batch_size, widths_of(problem, config)
    x, half = problem.t1[0], (batch + 1) // 2
    rows = torch.randint(len(x), (members * batch,))
    inputs = x.new_empty(members * batch, widths[0])
    images = inputs.view(members, batch, widths[0])
    noise = Noise(range(members), [(widths[0],)], batch, inputs)
    epsilon, std = torch.randn(members, half, widths[0]), torch.full((members, 1, 1), 0.3)
    draws = iter(range(10**9))
    products = [multiply for layer in pairwise(widths) for multiply in _products(members, batch, *layer)]
    del products[0]  # nobody asks for the derivative by the images
    theta = torch.randn(members, problem.network.size)
    keep = torch.full((members, 1), 0.9999)
    return {
        "gather the batch": lambda: torch.index_select(x, 0, rows, out=inputs),
        "draw the noise": lambda: noise.at(next(draws)),
        "add the noise": lambda: (
            images[:, :half].addcmul_(epsilon, std),
            images[:, half:].addcmul_(epsilon[:, : batch - half], std, value=-1),
        ),
        "products": lambda: [product() for product in products],
        "shrink the weights": lambda: theta.mul_(keep),
    }


def _products(members: int, batch: int, fan_in: int, fan_out: int) -> list[Callable[[], object]]:
    """Of one layer: the derivative by its inputs, the outputs, and the derivative by its weights, added to them."""
    a, delta = torch.randn(members, batch, fan_in), torch.randn(members, batch, fan_out) * 1e-6
    weight = torch.randn(members, fan_out, fan_in)
    outputs, back = torch.empty_like(delta), torch.empty_like(a)
    return [
        lambda: torch.bmm(delta, weight, out=back),
        lambda: torch.bmm(a, weight.transpose(1, 2), out=outputs),
        lambda: weight.baddbmm_(delta.transpose(1, 2), a, alpha=-1e-6),
    ]


def counted(widths: tuple[int, ...], batch: int, members: int) -> dict[str, int]:
    """What a step needs for each member: multiplications, normal numbers, and the bytes moved without any cache."""
    layers = list(pairwise(widths))
    weights = sum(n * m for n, m in layers)
    products = 3 * weights - layers[0][0] * layers[0][1]
    draws = (batch + 1) // 2 * widths[0]
    activations = batch * sum(n + m for n, m in layers)  # what goes into a layer, and what comes out
    images = batch * widths[0]
    moved = {
        "the batch, read and written": 2 * images,
        "the noise, written": draws,
        "the noise, added": draws + 2 * images,
        "products": 3 * (activations + weights) - batch * sum(layers[0]) - layers[0][0] * layers[0][1],
        "the weights, changed once more": 2 * weights,
    }
    return {
        "multiplications": batch * products,
        "normal_numbers": draws,
        "bytes": FLOAT * sum(moved.values()),
        "bytes_at_once": FLOAT * members * (weights + images + draws),
    }


def measure_one(config: TrainConfig, members: int, repeats: int) -> dict[str, Any]:
    """One network in one size of pack."""
    problem, times, device = load_problem(config), config.inner.steps, torch.device("cpu")
    arms: dict[str, Callable[[], float]] = {OURS: lambda: ours(problem, config, online=False, members=members)}
    for name, operation in operations(problem, config, members).items():
        arms[name] = lambda part=[operation]: repeated(part, times, device) / members  # type: ignore[misc]
    interleaved(arms, 1)  # imports, allocator and caches
    found = interleaved(arms, repeats)
    floor = [sum(part) for part in zip(*(found[name] for name in arms if name != OURS), strict=True)]
    return {
        "microseconds_per_step": {name: spread(values) for name, values in found.items()} | {"floor": spread(floor)},
        "ours_over_floor": spread(quotients(found[OURS], floor)),
        "counted": counted(widths_of(problem, config), config.inner.batch_size, members),
    }


def measure(steps: int, repeats: int, data: DataConfig, networks: tuple[tuple[int, ...], ...]) -> dict[str, Any]:
    """Every network in every size of pack."""
    described, found = machine(), {}
    for hidden in networks:
        config = configuration(steps, data, hidden)
        for members in PACKS:
            name = f"784-{'-'.join(map(str, hidden))}-10, P = {members}"
            found[name] = measure_one(config, members, repeats)
    return {
        "setting": {"batch_size": 100, "steps": steps, "repeats": repeats, "data": data.name},
        "machine": described,
        "networks": found,
    }


def show(report: dict[str, Any]) -> None:
    """The table."""
    for name, one in report["networks"].items():
        counts, ratio = one["counted"], one["ours_over_floor"]
        print(
            f"\n{name}: {counts['multiplications'] / 1e6:.1f} million multiplications, "
            f"{counts['normal_numbers']:.0f} normal numbers, {counts['bytes'] / 1e6:.2f} MB moved a member"
        )
        for part, row in one["microseconds_per_step"].items():
            print(f"  {part:22}{row['median']:8.0f} µs{row['min']:8.0f}{row['max']:8.0f}")
        print(f"  {'ours / floor':22}{ratio['median']:8.2f}   {ratio['min']:8.2f}{ratio['max']:8.2f}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500, help="inner steps of one timed training")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats of every row")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/fixed_step.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = measure(options.steps, options.repeats, mnist(), NETWORKS)
    show(report)
    write(options.out, report)


if __name__ == "__main__":
    main()
