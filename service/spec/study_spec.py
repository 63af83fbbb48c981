"""The spec of a study: read from TOML or a mapping, checked once, hashed by what affects its results.

The settings of a training are the dataclasses of :mod:`trainers.config`; pydantic validates straight into them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from service.errors import SpecError
from service.spec.arms import ARMS, ArmName
from service.spec.execution import ExecutionConfig
from service.spec.messages import check_values, explain
from service.spec.names import BUILT_IN, check_custom_names
from service.spec.starts import StartConfig, check_starts, put_back, taken_out
from service.spec.toml_file import read_toml
from trainers.bounds import MOST_SEED, MOST_STEPS, between, check, require
from trainers.config import (
    LOOK_UP,
    DataConfig,
    HyperparameterConfig,
    InnerConfig,
    ModelConfig,
    OuterConfig,
    TrainConfig,
    check_reference,
)
from trainers.errors import quoted

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MOST_RUNS = 10**8  # of a study: a driver holds a byte of each, and 84 while it publishes (service/README.md)


def check_name(name: str) -> str:
    """``name`` if it is a safe path component: it can neither climb out of a storage root nor hide in it."""
    if not NAME.fullmatch(name):
        raise SpecError(
            f"name = {quoted(name)}: must be 1 to 100 letters, digits, '.', '_' or '-', starting with a letter or digit"
        )
    return name


@dataclass(frozen=True)
class GridConfig:
    """The grid arm: ``points`` evenly spaced values over the box of each named hyperparameter, its ends included.

    A hyperparameter that is not named stays at the centre of its box. Every cell is trained with ``replicates`` seeds.
    """

    points: Annotated[dict[str, int], between(1, 10**6), "how many values, by hyperparameter"] = field(
        default_factory=dict
    )
    replicates: Annotated[int, between(1, 10**6), "how many seeds each cell is trained with"] = 3

    def __post_init__(self) -> None:
        check(self, "grid", SpecError)

    @property
    def cells(self) -> int:
        """The number of cells."""
        return math.prod(self.points.values())


@dataclass(frozen=True)
class StudySpec:
    """A study: ``configurations`` random starts of every model, trained in every arm, ``replicates`` times each.

    ``trainer`` is ``t1t2`` or ``module:function``, a generator of the user's own with the signature
    ``function(config, members, online, checkpoint_every, resume)`` that yields the records of :mod:`trainers.records`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Annotated[str, "the study's name: letters, digits, '.', '_' and '-'"]
    seed: Annotated[int, between(0, MOST_SEED), "decides every random number of the study"] = 0
    configurations: Annotated[int, between(1, MOST_RUNS), "how many random starts there are"] = 10
    replicates: Annotated[int, between(1, 10**6), "how often each run is repeated, with other initial weights"] = 1
    arms: Annotated[tuple[ArmName, ...], "what is done with each configuration"] = ("initial", "online", "rerun")
    data: DataConfig = field(default_factory=DataConfig)
    models: tuple[ModelConfig, ...] = (ModelConfig(),)
    hyperparameters: HyperparameterConfig = field(default_factory=HyperparameterConfig)
    starts: Annotated[
        dict[str, StartConfig], "where they start, if not uniformly over their boxes; in a file it stands in the box"
    ] = field(default_factory=dict)
    inner: InnerConfig = field(default_factory=InnerConfig)
    outer: OuterConfig = field(default_factory=OuterConfig)
    record_every: Annotated[int, between(1, MOST_STEPS), "inner steps between two points of a trajectory"] = 100
    dtype: Annotated[Literal["float32", "float64"], "the floating-point type of the trainings"] = "float32"
    grid: GridConfig = field(default_factory=GridConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    trainer: Annotated[str, "'t1t2', or 'module:function' for a trainer of the user's own"] = "t1t2"

    def __post_init__(self) -> None:
        check(self, "", SpecError)
        check_name(self.name)
        arms = list(self.arms)
        once = bool(arms) and len(set(arms)) == len(arms)
        require(once, "arms", arms, f"one or more of {list(ARMS)}, each once", SpecError)
        for arm in (ARMS[name] for name in arms):
            if arm.follows and arm.follows not in arms:
                why = f"{arm.name!r} trains with the final values of {arm.follows!r}, so name both"
                raise SpecError(f"arms = {arms}: {why}")
            if arm.on_grid and not self.grid.points:
                example = "{ log10_l2 = 5, input_noise_std = 5 }"
                raise SpecError(f"grid.points: the arm {arm.name!r} needs them, for example {example}")
        known = self.trainer == "t1t2" or LOOK_UP in self.trainer
        require(known, "trainer", self.trainer, "'t1t2' or 'module:function'", SpecError)
        if known and self.trainer != "t1t2":
            check_reference(self.trainer, "trainer")
        check_custom_names(self.hyperparameters.custom)
        check_starts(self.starts, self.hyperparameters)
        labels = [model.label for model in self.models]
        if not labels or len(set(labels)) < len(labels):
            raise SpecError(
                f"models: give one or more, each with a label of its own in the tables, not {quoted(labels)}"
            )
        self._check_runs()
        self.train_configs()

    def _check_runs(self) -> None:
        """Raise SpecError for more runs than one driver can hold."""
        runs, most = self.planned_runs, 10 * MOST_RUNS
        if runs > MOST_RUNS:
            raise SpecError(
                f"configurations = {self.configurations}: with all models, arms, replicates and cells of the grid, the "
                f"study has {f'{runs:,}' if runs <= most else f'over {most:,}'} runs: must be at most {MOST_RUNS:,}, "
                "which one driver can hold; make several studies of it"
            )

    @property
    def planned_runs(self) -> int:
        """The number of runs of the study."""
        on_grid = sum(ARMS[name].on_grid for name in self.arms)
        each = (len(self.arms) - on_grid) * self.configurations * self.replicates
        return len(self.models) * (each + on_grid * self.grid.cells * self.grid.replicates)

    @property
    def has_grid(self) -> bool:
        """Whether an arm of the study trains on the grid."""
        return any(ARMS[name].on_grid for name in self.arms)

    def train_configs(self) -> tuple[TrainConfig, ...]:
        """The settings of the trainings of each model, ordered by the model's label."""
        models = sorted(self.models, key=lambda model: model.label)
        return tuple(
            TrainConfig(
                data=self.data,
                model=model,
                hyperparameters=self.hyperparameters,
                inner=self.inner,
                outer=self.outer,
                record_every=self.record_every,
                dtype=self.dtype,
            )
            for model in models
        )

    @staticmethod
    def from_dict(values: Mapping[str, Any], where: str = "spec") -> StudySpec:
        """Check ``values``, structured as the TOML; raises :class:`SpecError` naming every bad key."""
        try:
            check_values(values)
            text = json.dumps(_without_unnamed(taken_out(values)), default=str)
            # JSON mode: strict about types, yet a list is a tuple and 1 is a float.
            return _adapter().validate_json(text, strict=True)
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from None
        except ValidationError as error:
            raise SpecError("\n".join(f"{where}: {line}" for line in explain(error, StudySpec))) from None

    def to_dict(self) -> dict[str, Any]:
        """The resolved spec: JSON-able, in the structure of the TOML, every default filled in."""
        resolved: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        del resolved["starts"]
        put_back(resolved, self.starts)
        return resolved

    @property
    def identity(self) -> dict[str, Any]:
        """What affects the results of the study's runs, in one canonical form.

        Left out: the name, where and how the work is done, where the data lie (their content is checked by its own
        hash), and the number of configurations, so that an extended study keeps its runs.
        """
        # As it is read back, so that a whole number given in Python for a float is the float that it is in a file.
        values = StudySpec.from_dict(self.to_dict()).to_dict()
        for key in ("name", "configurations", "execution"):
            del values[key]
        del values["data"]["root"]
        values["arms"] = sorted(self.arms)
        values["models"] = [dataclasses.asdict(config.model) for config in self.train_configs()]
        if self.has_grid:  # in order, because the order of the axes numbers the cells
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
    return located(StudySpec.from_dict(read_toml(path), where=str(path)), Path(path).parent)


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
