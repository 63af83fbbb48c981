"""Which parameter of a search is which hyperparameter of the tables, and which metric is which loss."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import StudyError
from service.imports.trials import Source, is_number
from service.records.manifest import read_spec
from service.spec.names import COLUMNS, SUFFIXES
from trainers.config import Range

METRICS = ("t1_loss", "t2_loss", "t2_error", "test_loss", "test_error")
COLUMN = re.compile("[a-z][a-z0-9_]{0,99}")
# What becomes of a value on its way into the tables. A penalty λ θ² is 10^x θ²/2 with x = log10(2 λ).
TRANSFORMS: dict[str, Callable[[float], float]] = {
    "log10": math.log10,
    "log10_double": lambda value: math.log10(2 * value),
    "sqrt": math.sqrt,
    "complement": lambda value: 1 - value,
}
_MORE_IS_BETTER = "complement"  # makes an error of an accuracy


@dataclass(frozen=True)
class Named:
    """A column, what the search calls it, and how a value is transformed."""

    column: str
    name: str
    transform: str | None = None

    def value(self, values: Mapping[str, Any]) -> float | None:
        """The column's value, which may be NaN or infinite; None where there is no number, or none comes of it."""
        value = values.get(self.name)
        if not is_number(value):
            return None
        try:
            number = float(value)  # type: ignore[arg-type]  # it is a number
            return TRANSFORMS[self.transform](number) if self.transform else number
        except (ValueError, OverflowError):  # the logarithm of 0; an integer of a thousand digits
            return None


@dataclass(frozen=True)
class Fixed:
    """A hyperparameter that a search did not vary, and its value."""

    column: str
    number: float

    def value(self, values: Mapping[str, Any]) -> float:
        """The same for every trial."""
        return self.number


@dataclass(frozen=True, kw_only=True)
class Names:
    """Where each hyperparameter and each metric of the tables comes from."""

    hyperparameters: tuple[Named | Fixed, ...]
    metrics: tuple[Named, ...]


@dataclass(frozen=True, kw_only=True)
class Like:
    """What is taken from a study that the search is to be laid over: its box, models and data set."""

    boxes: Mapping[str, tuple[float, float]]
    models: Sequence[str]
    dataset: str


def read_like(uri: str) -> Like:
    """The hyperparameters, models and data set of the study at ``uri``; raises StudyError where there is none."""
    spec = read_spec(uri)
    settings = spec.hyperparameters
    built_in = {name: value for name, value in vars(settings).items() if isinstance(value, Range)}
    custom = {reference.partition(":")[2]: box for reference, box in settings.custom.items()}
    return Like(
        boxes={name: (box.low, box.high) for name, box in (built_in | custom).items()},
        models=sorted(model.label for model in spec.models),
        dataset=spec.data.name,
    )


def resolve(
    source: Source, maps: Iterable[str], metrics: Iterable[str], settings: Iterable[str], like: Like | None
) -> Names:
    """What the options ``--map``, ``--metric`` and ``--set`` say, checked against ``source`` and ``like``.

    What has the name of its column needs no option: a hyperparameter of ``like``, and a metric.

    Raises:
        StudyError: an option cannot be read, or something that it names is not there, or nothing is named.
    """
    named = [_named(text, "--map") for text in maps]
    given: list[Named | Fixed] = [*named, *map(_fixed, settings)]
    losses = [_named(text, "--metric") for text in metrics]
    _check_once("--map and --set", [each.column for each in given])
    _check_once("--metric", [each.column for each in losses])
    _check_present("--map", "parameter", named, source.parameters)
    _check_present("--metric", "metric", losses, source.metrics)
    hyperparameters = tuple(_hyperparameters(source, {each.column: each for each in given}, like))
    for each in losses:
        if each.column not in METRICS:
            raise StudyError(f"--metric {each.name}={each.column}: must give one of {', '.join(METRICS)}")
        if each.name in source.maximised and each.transform != _MORE_IS_BETTER:
            raise StudyError(
                f"--metric {each.name}={each.column}: the search maximises it, and {each.column} is better the lower "
                f"it is; for an accuracy write {each.name}=t2_error:{_MORE_IS_BETTER}"
            )
    losses += [
        Named(name, name)
        for name in METRICS
        if name in source.metrics and name not in source.maximised and name not in {each.column for each in losses}
    ]
    if not losses:
        raise StudyError(
            f"--metric: name a metric and the column that it is, as in val_loss=t2_loss; the columns are "
            f"{', '.join(METRICS)}, and the search has {_listed('metric', source.metrics)}"
        )
    return Names(hyperparameters=hyperparameters, metrics=tuple(losses))


def _hyperparameters(source: Source, given: Mapping[str, Named | Fixed], like: Like | None) -> list[Named | Fixed]:
    """One for each column, in the order of ``like``'s, or of the options."""
    for column in given:
        if like is not None and column not in like.boxes:
            raise StudyError(f"{column}: must be a hyperparameter of the --like study: {', '.join(like.boxes)}")
        if not COLUMN.fullmatch(column) or column in COLUMNS or column.endswith(SUFFIXES):
            raise StudyError(
                f"{column}: must be a name of lower-case letters, digits and '_' for a hyperparameter, such as "
                "log10_l2 or input_noise_std, and no other column of the tables"
            )
    if not given and like is None:
        raise StudyError(
            f"--map: name a parameter and the hyperparameter that it is, as in weight_decay=log10_l2:log10; the search "
            f"has {_listed('parameter', source.parameters)}"
        )
    for column in like.boxes if like else ():
        if column not in given and column not in source.parameters:
            raise StudyError(
                f"{column}: the --like study has it; say by --map NAME={column} which parameter it is, or by "
                f"--set {column}=VALUE what it was; the search has {_listed('parameter', source.parameters)}"
            )
    return [given.get(column, Named(column, column)) for column in (like.boxes if like else given)]


def _named(text: str, option: str) -> Named:
    name, found, rest = text.rpartition("=")
    column, transformed, transform = rest.partition(":")
    if not (found and name and column) or (transformed and transform not in TRANSFORMS):
        raise StudyError(
            f"{option} {text}: must be NAME=COLUMN or NAME=COLUMN:TRANSFORM, with a transform among "
            f"{', '.join(TRANSFORMS)}"
        )
    return Named(column, name, transform or None)


def _fixed(text: str) -> Fixed:
    column, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not column or not math.isfinite(number):
        raise StudyError(f"--set {text}: must be COLUMN=VALUE with a finite number, as in input_noise_std=0")
    return Fixed(column, number)


def _check_once(option: str, columns: list[str]) -> None:
    for column in columns:
        if columns.count(column) > 1:
            raise StudyError(f"{option}: {column} must be given once, not {columns.count(column)} times")


def _check_present(option: str, kind: str, named: list[Named], known: list[str]) -> None:
    for each in named:
        if each.name not in known:
            raise StudyError(
                f"{option} {each.name}={each.column}: no trial has this {kind}; there are {_listed(kind, known)}"
            )


def _listed(kind: str, known: list[str]) -> str:
    return f"the {kind}s {', '.join(known)}" if known else f"no {kind}s"
