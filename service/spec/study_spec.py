"""The spec of a study: read from TOML or a mapping, checked once, hashed by what affects its results.

The settings of a training are the dataclasses of :mod:`trainers.config`; pydantic validates straight into them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from service.errors import SpecError
from trainers.config import (
    ConfigError,
    DataConfig,
    HyperparameterConfig,
    InnerConfig,
    ModelConfig,
    OuterConfig,
    TrainConfig,
)

ArmName = Literal["initial", "online", "rerun", "grid"]
ARMS: tuple[ArmName, ...] = ("initial", "online", "rerun", "grid")
CONFIGURATION_ARMS: tuple[ArmName, ...] = ("initial", "online", "rerun")
BUILT_IN = ("log10_l2", "input_noise_std", "hidden_noise_std", "label_smoothing")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: str) -> str:
    """``name`` if it is a safe path component: it can neither climb out of a storage root nor hide in it."""
    if not NAME.fullmatch(name):
        raise SpecError(
            f"name = {name!r}: must be 1 to 100 letters, digits, '.', '_' or '-', starting with a letter or digit"
        )
    return name


@dataclass(frozen=True)
class GridConfig:
    """The grid arm: ``points`` evenly spaced values over the box of each named hyperparameter, its ends included.

    A hyperparameter that is not named stays at the centre of its box. Every cell is trained with ``replicates`` seeds.
    """

    points: dict[str, int] = field(default_factory=dict)
    replicates: int = 3

    def __post_init__(self) -> None:
        for name, count in self.points.items():
            if count < 1:
                raise SpecError(f"grid.points.{name} = {count}: must be at least 1")
        if self.replicates < 1:
            raise SpecError(f"grid.replicates = {self.replicates}: must be at least 1")

    @property
    def cells(self) -> int:
        """The number of cells."""
        product = 1
        for count in self.points.values():
            product *= count
        return product


@dataclass(frozen=True)
class ExecutionConfig:
    """How the work is done. Nothing here affects the results, so nothing here is hashed.

    ``runs_per_actor`` is the size of a pack, the runs that one actor trains as one batched computation; it is resolved
    when a study is created and then stays, because the rounding of a batched computation may depend on its size.
    """

    actors: int | Literal["auto"] = "auto"  # "auto": as many as the cluster has room for, now and later
    cpus_per_actor: float = 1.0
    gpus_per_actor: float = 0.0
    memory_per_actor_gib: float | None = None
    runs_per_actor: int | Literal["auto"] = 1
    checkpoint_every: int | None = None  # inner steps between checkpoints; None: a lost run starts again
    loss_retries: int = 20  # for each run, after losing its worker, actor or node
    failure_retries: int = 1  # for each run, after an exception in its training
    resource_timeout_s: float = 0.0  # how long to wait for a node that fits an actor (clusters that scale up)

    def __post_init__(self) -> None:
        at_least: dict[str, float] = {
            "actors": 1,
            "runs_per_actor": 1,
            "checkpoint_every": 1,
            "loss_retries": 0,
            "failure_retries": 0,
            "gpus_per_actor": 0,
            "resource_timeout_s": 0,
        }
        for key, least in at_least.items():
            value = getattr(self, key)
            if value is not None and value != "auto" and value < least:
                raise SpecError(f"execution.{key} = {value}: must be at least {least:g}")
        for key in ("cpus_per_actor", "memory_per_actor_gib"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise SpecError(f"execution.{key} = {value}: must be above 0")


@dataclass(frozen=True)
class StudySpec:
    """A study: ``configurations`` random starts of every model, trained in every arm, ``replicates`` times each.

    ``trainer`` is ``t1t2`` or ``module:function``, a generator of the user's own with the signature
    ``function(config, members, online, checkpoint_every, resume)`` that yields the records of :mod:`trainers.records`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    seed: int = 0
    configurations: int = 10
    replicates: int = 1
    arms: tuple[ArmName, ...] = ("initial", "online", "rerun")
    data: DataConfig = field(default_factory=DataConfig)
    models: tuple[ModelConfig, ...] = (ModelConfig(),)
    hyperparameters: HyperparameterConfig = field(default_factory=HyperparameterConfig)
    inner: InnerConfig = field(default_factory=InnerConfig)
    outer: OuterConfig = field(default_factory=OuterConfig)
    record_every: int = 100
    dtype: Literal["float32", "float64"] = "float32"
    grid: GridConfig = field(default_factory=GridConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    trainer: str = "t1t2"

    def __post_init__(self) -> None:
        check_name(self.name)
        for key, least in {"seed": 0, "configurations": 1, "replicates": 1}.items():
            if getattr(self, key) < least:
                raise SpecError(f"{key} = {getattr(self, key)}: must be at least {least}")
        if not self.arms or len(set(self.arms)) < len(self.arms):
            raise SpecError(f"arms = {list(self.arms)}: must name one or more of {list(ARMS)}, each once")
        if "rerun" in self.arms and "online" not in self.arms:
            raise SpecError(f"arms = {list(self.arms)}: 'rerun' trains with the final values of 'online', so name both")
        if "grid" in self.arms and not self.grid.points:
            raise SpecError("grid.points: the arm 'grid' needs them, for example { log10_l2 = 5, input_noise_std = 5 }")
        if self.trainer != "t1t2" and ":" not in self.trainer:
            raise SpecError(f"trainer = {self.trainer!r}: must be 't1t2' or 'module:function'")
        labels = [model.label for model in self.models]
        if not labels or len(set(labels)) < len(labels):
            raise SpecError(f"models: give one or more, each with a label of its own in the tables, not {labels}")
        self.train_configs()

    def train_configs(self) -> tuple[TrainConfig, ...]:
        """The settings of the trainings of each model, ordered by the model's label."""
        models = sorted(self.models, key=lambda model: model.label)
        return tuple(
            TrainConfig(self.data, model, self.hyperparameters, self.inner, self.outer, self.record_every, self.dtype)
            for model in models
        )

    @staticmethod
    def from_dict(values: Mapping[str, Any], where: str = "spec") -> StudySpec:
        """Check ``values``, structured as the TOML; raises :class:`SpecError` naming every bad key."""
        try:
            text = json.dumps(_without_unnamed(values), default=str)
            # JSON mode: strict about types, yet a list is a tuple and 1 is a float.
            return _adapter().validate_json(text, strict=True)
        except ValidationError as error:
            raise SpecError("\n".join(f"{where}: {line}" for line in _explain(error.errors()))) from None
        except ConfigError as error:
            raise SpecError(f"{where}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """The resolved spec: JSON-able, in the structure of the TOML, every default filled in."""
        resolved: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return resolved

    @property
    def identity(self) -> dict[str, Any]:
        """What affects the results of the study's runs, in one canonical form.

        Left out: the name, where and how the work is done, where the data lie (their content is checked by its own
        hash), and the number of configurations, so that an extended study keeps its runs.
        """
        values = self.to_dict()
        for key in ("name", "configurations", "execution"):
            del values[key]
        del values["data"]["root"]
        values["arms"] = sorted(self.arms)
        values["models"] = [dataclasses.asdict(config.model) for config in self.train_configs()]
        if "grid" in self.arms:  # in order, because the order of the axes numbers the cells
            values["grid"]["points"] = list(self.grid.points.items())
        else:
            del values["grid"]
        canonical: dict[str, Any] = json.loads(json.dumps(values, sort_keys=True))
        return canonical

    @property
    def hash(self) -> str:
        """SHA-256 of :attr:`identity`."""
        return digest(self.identity)


def digest(values: object) -> str:
    """SHA-256 of a JSON-able object, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load_spec(path: str | Path) -> StudySpec:
    """Read a spec from a TOML file; raises :class:`SpecError`.

    A relative ``data.root`` is below the directory of the file, wherever the command is given.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: is not TOML ({error})") from None
    return located(StudySpec.from_dict(values, where=str(path)), Path(path).parent)


def located(spec: StudySpec, directory: str | Path) -> StudySpec:
    """``spec`` with an absolute ``data.root``, as workers with other working directories need it.

    A relative one is below ``directory``; ``~`` is the home of whoever reads the data.
    """
    root = spec.data.root
    if root is None or root.startswith("~"):
        return spec
    absolute = os.path.abspath(os.path.join(directory, root))
    return dataclasses.replace(spec, data=dataclasses.replace(spec.data, root=absolute))


def differences(given: StudySpec, stored: StudySpec) -> list[str]:
    """One line for each key in which the results of two specs would differ."""
    ours, theirs = _flat(given.identity), _flat(stored.identity)
    return [
        f"{key}: {ours.get(key, 'not set')} here, {theirs.get(key, 'not set')} in the study"
        for key in sorted({*ours, *theirs})
        if ours.get(key) != theirs.get(key)
    ]


def _flat(values: object, path: str = "") -> dict[str, str]:
    if isinstance(values, dict) and values:
        return {
            k: v for key, value in values.items() for k, v in _flat(value, f"{path}.{key}" if path else key).items()
        }
    return {path: json.dumps(values)}


def _without_unnamed(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A study tunes the hyperparameters that it names; one that names none tunes the default ones."""
    named = values.get("hyperparameters")
    if not isinstance(named, Mapping) or not any(key in named for key in (*BUILT_IN, "custom")):
        return values
    return {**values, "hyperparameters": {**dict.fromkeys(BUILT_IN), **named}}


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[StudySpec]:
    return TypeAdapter(StudySpec)


def _explain(details: list[ErrorDetails]) -> list[str]:
    """One line for each key: where, what is wrong, what is allowed."""
    lines: dict[str, str] = {}
    for detail in details:
        # In a union such as "int | 'auto'" every branch reports by itself, its type at the end of the path.
        path = [str(part) for part in detail["loc"]]
        if path and (path[-1] in ("int", "float") or path[-1].startswith("literal[")):
            path.pop()
        where, kind = ".".join(path), detail["type"]
        wish = detail["msg"].removeprefix("Input should be ")
        if kind == "unexpected_keyword_argument":
            lines[where] = f"{where}: unknown key; allowed: {', '.join(_keys(path[:-1]))}"
        elif kind == "missing":
            lines[where] = f"{where}: missing"
        elif kind == "value_error":
            message = str(detail["ctx"]["error"])
            lines[where] = message.replace("hyperparameters: [low", f"{where}: [low").replace(
                "hyperparameters: learning", f"{where}: learning"
            )
        elif where in lines:
            lines[where] += f" or {wish}"
        else:
            lines[where] = f"{where} = {json.dumps(detail['input'], default=str)}: must be {wish}"
    return list(lines.values())


def _keys(path: list[str]) -> list[str]:
    """The keys that the table at ``path`` may have."""
    kind: Any = StudySpec
    for part in path:
        if dataclasses.is_dataclass(kind):
            kind = get_type_hints(kind)[part]
        else:  # an element of a list, or a value of a mapping
            kind = [argument for argument in get_args(kind) if argument is not ...][-1]
        if get_origin(kind) is UnionType:  # "Range | None"
            kind = get_args(kind)[0]
    return [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
