"""Where the starts of a study are drawn from: for each hyperparameter a distribution over its box.

A start is no setting of a training, so :class:`~service.spec.study_spec.StudySpec` holds it beside the settings. A
spec's file has it where one looks for it, in the hyperparameter's own table: ``start = { normal = [-4, 0.5] }``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Any

from service.errors import SpecError
from service.spec.messages import START, place, start_path
from service.spec.names import BUILT_IN
from service.spec.search_space import as_table
from trainers.bounds import between, check, require
from trainers.config import HyperparameterConfig, Range
from trainers.errors import quoted

LAWS = ("uniform", "loguniform", "normal", "choice")
NUMBER = between(-1e6, 1e6)  # as the ends of a box
LEAST_DEVIATION = 1e-9  # as the width of a box: below, the draws are one value to a network in float32
LEAST_MASS = 1e-6  # of a normal distribution, inside the box: whoever asks for less has mistaken the box or the mean


@dataclass(frozen=True)
class StartConfig:
    """The distribution of a hyperparameter's start: exactly one of the four is given.

    All draws lie in the box: a normal distribution is truncated to it, that is, taken on the condition of lying in the
    box. The others must lie inside it themselves. Units are those of the hyperparameter.
    """

    uniform: Annotated[tuple[float, float] | None, NUMBER, "its two ends"] = None
    loguniform: Annotated[tuple[float, float] | None, NUMBER, "two ends above 0; the logarithm is uniform"] = None
    normal: Annotated[tuple[float, float] | None, NUMBER, "mean and standard deviation, before the truncation"] = None
    choice: Annotated[tuple[float, ...] | None, NUMBER, "values; each is as likely as it is often named"] = None

    def __post_init__(self) -> None:
        check(self, START, SpecError)
        given = [law for law in LAWS if getattr(self, law) is not None]
        require(len(given) == 1, START, given, f"one of {', '.join(LAWS)}, and one alone", SpecError)
        where, values = f"{START}.{self.law}", list(self.values)
        if self.normal is not None:
            deviates = values[1] >= LEAST_DEVIATION
            wish = f"a mean and a standard deviation of at least {LEAST_DEVIATION:g}"
            require(deviates, where, values, wish, SpecError)
        elif self.choice is not None:
            require(bool(values), where, values, "one value or more", SpecError)
        else:
            require(values[0] < values[1], where, values, "two numbers, the lower one first", SpecError)
            positive = self.loguniform is None or values[0] > 0
            require(positive, where, values, "above 0, because the logarithm is drawn", SpecError)

    @property
    def law(self) -> str:
        """The name of the distribution."""
        return next(law for law in LAWS if getattr(self, law) is not None)

    @property
    def values(self) -> tuple[float, ...]:
        """The numbers of the distribution."""
        values: tuple[float, ...] = getattr(self, self.law)
        return values

    def to_dict(self) -> dict[str, list[float]]:
        """The one canonical form, as in a file: the name of the distribution with its numbers."""
        return {self.law: [float(value) for value in self.values]}


def quantile(start: StartConfig | None, box: Range, part: float) -> float:
    """The value that a draw does not exceed with the probability ``part`` in [0, 1]; without ``start``, uniform."""
    if start is None:
        return box.low + (box.high - box.low) * part
    if start.choice is not None:
        return float(start.choice[min(int(part * len(start.choice)), len(start.choice) - 1)])
    if start.normal is not None:
        return _truncated_normal(*start.normal, box.low, box.high, part)
    low, high = start.values
    if start.uniform is not None:
        value = low + (high - low) * part
    else:
        value = math.exp(math.log(low) + (math.log(high) - math.log(low)) * part)
    return min(max(value, low), high)  # rounding may go beyond an end


def _truncated_normal(mean: float, deviation: float, low: float, high: float, part: float) -> float:
    """The quantile of the normal distribution on the condition that it lies in [low, high]."""
    a, b = (low - mean) / deviation, (high - mean) / deviation
    if a + b > 0:  # mirrored, because a probability is exact where it is small: in the lower tail
        return -_truncated_normal(-mean, deviation, -high, -low, 1 - part)
    below = _below(a) + (_below(b) - _below(a)) * part
    z = NormalDist().inv_cdf(below) if 0 < below < 1 else (a if below <= 0 else b)
    return min(max(mean + deviation * z, low), high)


def _mass(mean: float, deviation: float, low: float, high: float) -> float:
    """The probability that a normal number lies in [low, high]."""
    a, b = (low - mean) / deviation, (high - mean) / deviation
    return _below(-a) - _below(-b) if a + b > 0 else _below(b) - _below(a)


def _below(z: float) -> float:
    """The probability that a standard normal number is below ``z``, with all its digits where it is small."""
    return math.erfc(-z / math.sqrt(2)) / 2


def check_starts(starts: Mapping[str, StartConfig], settings: HyperparameterConfig) -> None:
    """Raise :class:`SpecError` for a start that has no box, or whose draws would not lie in it."""
    boxes = {name: getattr(settings, name) for name in BUILT_IN} | settings.custom
    for name, start in starts.items():
        box = boxes.get(name)
        if box is None:
            tuned = [name for name, box in boxes.items() if box is not None]
            raise SpecError(f"starts: {quoted(name)} is not a hyperparameter of this study; allowed: {quoted(tuned)}")
        where, values = f"{place(start_path(name))}.{start.law}", list(start.values)
        ends = f"the box [{box.low:g}, {box.high:g}]"
        if start.normal is not None:
            mass = _mass(*start.normal, box.low, box.high)
            wish = f"a normal distribution with at least {LEAST_MASS:g} of its mass in {ends}, not {mass:.2g}"
            require(mass >= LEAST_MASS, where, values, wish, SpecError)
        else:
            inside = box.low <= min(values) and max(values) <= box.high
            require(inside, where, values, f"within {ends}", SpecError)


def taken_out(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of a spec's file as the fields of a spec: the starts in a table of their own, by hyperparameter."""
    if "starts" in values:
        example = place(start_path(BUILT_IN[0]))
        raise SpecError(f"starts: unknown key; a start stands in the table of its hyperparameter, such as {example}")
    tables = values.get("hyperparameters")
    if not isinstance(tables, Mapping):
        return values
    starts: dict[str, object] = {}

    def bare(name: str, box: object) -> object:
        if not isinstance(box, Mapping) or START not in box:
            return box
        if box[START] is not None:
            starts[name] = as_table(box[START], place(start_path(name)))
        return {key: value for key, value in box.items() if key != START}

    boxes = {name: bare(name, box) if name in BUILT_IN else box for name, box in tables.items()}
    if isinstance(custom := boxes.get("custom"), Mapping):
        boxes["custom"] = {name: bare(name, box) for name, box in custom.items()}
    return {**values, "hyperparameters": boxes, "starts": starts}


def put_back(values: dict[str, Any], starts: Mapping[str, StartConfig]) -> None:
    """Write the starts into the tables of their hyperparameters, in the values of a spec's file."""
    for name, start in starts.items():
        table = values
        for key in start_path(name)[:-1]:
            table = table[key]
        table[START] = start.to_dict()
