"""How many numbers a network of ours has, by arithmetic alone: known before any data are read or memory is asked for.

These are lower bounds, to refuse what cannot be. :mod:`trainers.memory` estimates what a training really takes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

INPUT_SHAPES = {  # of the data sets that come along
    "digits": (1, 8, 8),
    "mnist5k": (1, 28, 28),
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
}
CLASSES = 10  # of all of them
LARGEST_TRAINING = 2**40  # bytes: more than a GPU has, and than all but a few machines have


def least_numbers(shape: tuple[int, int, int] | None, widths: Sequence[int], batch: int, *, convolutional: bool) -> int:
    """Numbers of two copies of θ (itself and its gradient) and of the activations of one batch.

    ``widths`` are those of the hidden layers of a perceptron, or the channels of the stages of a convolutional network.
    Of inputs of an unknown ``shape`` (None) the least is supposed.
    """
    classes = CLASSES if shape else 1
    if convolutional:
        side = 2 ** len(widths)  # each stage halves it
        weights, activations = _convolutional(shape or (1, side, side), widths, classes)
    else:
        weights, activations = perceptron_weights(math.prod(shape or (1,)), widths, classes), sum(widths)
    return 2 * weights + batch * activations


def operations(shape: tuple[int, int, int], widths: Sequence[int], batch: int, *, convolutional: bool) -> int:
    """Multiplications and additions of one step of plain training: two for each weight, forwards, and twice back."""
    if not convolutional:
        return 6 * batch * perceptron_weights(math.prod(shape), widths)
    depth, height, width = shape
    products = 0
    for maps in widths:
        products += 9 * depth * maps * height * width
        depth, height, width = maps, height // 2, width // 2
    return 6 * batch * (products + depth * height * width * CLASSES)


def perceptron_weights(inputs: int, hidden: Sequence[int], classes: int = CLASSES) -> int:
    """Weights and biases of a perceptron."""
    return sum((a + 1) * b for a, b in itertools.pairwise((inputs, *hidden, classes)))


def _convolutional(shape: tuple[int, int, int], channels: Sequence[int], classes: int) -> tuple[int, int]:
    """Weights, without biases and normalisation, and the outputs of the convolutions for one example."""
    depth, height, width = shape
    weights = activations = 0
    for maps in channels:
        weights += 9 * depth * maps
        activations += maps * height * width
        depth, height, width = maps, height // 2, width // 2
    return weights + depth * height * width * classes, activations
