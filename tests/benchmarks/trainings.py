"""What the benchmarks time alike: our trainings, and operations repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from trainers import Member, Problem, Result, TrainConfig, train

HYPERPARAMETERS = {"log10_l2": -4.0, "input_noise_std": 0.3}  # of every training


def ours(problem: Problem, config: TrainConfig, *, online: bool, members: int = 1) -> float:
    """Microseconds that a step of ``trainers.train`` takes for each member."""
    pack = [Member(seed, HYPERPARAMETERS) for seed in range(1, members + 1)]
    results = [record for record in train(problem, config, pack, online=online) if isinstance(record, Result)]
    assert all(result.status == "completed" for result in results), results
    return results[0].train_time_s / config.inner.steps * 1e6


def finished_at(device: torch.device) -> float:
    """The time in seconds when the device has done what it was asked for so far; a GPU is asked ahead."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def repeated(operations: Sequence[Callable[[], object]], times: int, device: torch.device) -> float:
    """Microseconds that the operations together take, one after the other."""
    started = finished_at(device)
    for _ in range(times):
        for operation in operations:
            operation()
    return (finished_at(device) - started) / times * 1e6
