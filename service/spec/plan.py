"""From a spec to its runs: a pure function. Ids, seeds and initial values depend on a run's place, never on call order.

Runs are never listed in memory: a run is named by its arm, its model and its *slot*, and everything else about it is
computed when it is needed. The slots of an arm number its configurations, each with all of its replicates; in an arm on
the grid, cells take the place of configurations.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from service.errors import SpecError
from service.spec.arms import ARMS, Arm
from service.spec.fits import check_plannable
from service.spec.names import BUILT_IN
from service.spec.packing import pack_size_of
from service.spec.starts import StartConfig, quantile
from service.spec.study_spec import StudySpec, digest
from trainers.config import LOOK_UP, ConfigError, Range, TrainConfig
from trainers.errors import LONGEST_LINE, shortened

# Named streams of numpy.random.SeedSequence(study_seed, spawn_key=(config_index, replicate, stream)).
STREAMS = {"training": 0, "hyperparameters": 1, "grid_training": 2, "baselines": 3}
Numbers = TypeVar("Numbers", int, npt.NDArray[np.int64])  # one, or a column of them


class Pack(NamedTuple):
    """Runs of one arm and one model that one actor trains together."""

    arm: Arm
    model: int  # position in Plan.configs
    slots: tuple[int, ...]


class PlannedRun(NamedTuple):
    """One run: its id, its place in the study, its seed, and the hyperparameters that it starts from."""

    run_id: str
    config_index: int
    replicate: int
    seed: int
    initial: dict[str, float]


@lru_cache(maxsize=4096)  # the models and arms of a configuration ask for the same ones
def stream(seed: int, config_index: int, replicate: int, *name: int) -> int:
    """63 random bits that belong to one place and one named stream of a study."""
    sequence = np.random.SeedSequence(seed, spawn_key=(config_index, replicate, *name))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def training_seed(seed: int, config_index: int, replicate: int) -> int:
    """The seed shared by all arms of a configuration, whatever the model."""
    return stream(seed, config_index, replicate, STREAMS["training"])


def grid_seed(seed: int, replicate: int) -> int:
    """The seed shared by all cells of a replicate of the grid, so that they are compared under the same noise."""
    return stream(seed, 0, replicate, STREAMS["grid_training"])


def initial_value(
    seed: int, config_index: int, replicate: int, name: str, box: Range, start: StartConfig | None = None
) -> float:
    """A draw from ``start``, or uniform over ``box``.

    Each hyperparameter has a stream of its own, so one more or less changes no other.
    """
    bits = stream(seed, config_index, replicate, STREAMS["hyperparameters"], zlib.crc32(name.encode()))
    return quantile(start, box, bits / 2.0**63)


@dataclass(frozen=True)
class Plan:
    """The ordered runs of a study, by index."""

    spec: StudySpec
    pack_size: int
    boxes: tuple[dict[str, Range], ...]  # for each model, column name → box

    @cached_property
    def configs(self) -> tuple[TrainConfig, ...]:
        """The settings of each model's trainings."""
        return self.spec.train_configs()

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The label of each model."""
        return tuple(config.model.label for config in self.configs)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The hyperparameters of all models, in the order of the tables' columns."""
        deepest_first = sorted(self.boxes, key=len, reverse=True)  # keeps the layers of one hyperparameter together
        return tuple(dict.fromkeys(name for boxes in deepest_first for name in boxes))

    @cached_property
    def starts(self) -> tuple[dict[str, StartConfig], ...]:
        """For each model, column name → the distribution of its start, where the spec gives one."""
        return tuple(
            {
                column: start
                for name, start in self.spec.starts.items()
                for column in columns_of(name.rpartition(LOOK_UP)[2], boxes)
            }
            for boxes in self.boxes
        )

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """The arms of the study, in the order of the tables."""
        return tuple(arm for arm in ARMS.values() if arm.name in self.spec.arms)

    @cached_property
    def followers(self) -> dict[str, tuple[Arm, ...]]:
        """For the name of each arm, the arms of the study that start from the final values of its runs."""
        return {arm.name: tuple(each for each in self.arms if each.follows == arm.name) for arm in self.arms}

    def replicates(self, arm: Arm) -> int:
        """Slots for each configuration (or cell) of ``arm``."""
        return self.spec.grid.replicates if arm.on_grid else self.spec.replicates

    def slots(self, arm: Arm) -> int:
        """Runs of ``arm`` for each model."""
        return (self.spec.grid.cells if arm.on_grid else self.spec.configurations) * self.replicates(arm)

    def slot(self, arm: Arm, config_index: Numbers, replicate: Numbers) -> Numbers:
        """The slot of a replicate of a configuration, or of a cell of the grid."""
        return config_index * self.replicates(arm) + replicate

    def index(self, model: Numbers, slot: Numbers) -> Numbers:
        """The number of a run within its arm. It does not change when the study is extended."""
        return slot * len(self.configs) + model

    def place(self, index: int) -> tuple[int, int]:
        """The model and the slot of the run with this number within its arm."""
        slot, model = divmod(index, len(self.configs))
        return model, slot

    def planned(self) -> dict[str, int]:
        """Runs by arm."""
        return {arm.name: self.slots(arm) * len(self.configs) for arm in self.arms}

    def packs(self) -> Iterator[Pack]:
        """Every pack in the order to start them, without the arms that follow another.

        The arms of the configurations come first, block by block of configurations, so that a study that is still
        running holds whole configurations. Nothing waits for the grid, so it fills the end.
        """
        first = sorted((arm for arm in self.arms if arm.follows is None), key=lambda arm: arm.priority)
        for on_grid in (False, True):
            arms = [arm for arm in first if arm.on_grid is on_grid]
            for start in range(0, self.slots(arms[0]) if arms else 0, self.pack_size):
                for arm in arms:
                    slots = tuple(range(start, min(start + self.pack_size, self.slots(arm))))
                    yield from (Pack(arm, model, slots) for model in range(len(self.configs)))

    def run(self, arm: Arm, model: int, slot: int, initial: dict[str, float] | None = None) -> PlannedRun:
        """The run at this place. In an arm that follows another, ``initial`` gives the final values to start from."""
        config_index, replicate = divmod(slot, self.replicates(arm))
        seed = self.spec.seed
        if initial is None and arm.on_grid:
            initial = self.cell(model, config_index)
        elif initial is None:
            starts = self.starts[model]
            initial = {
                name: initial_value(seed, config_index, replicate, name, box, starts.get(name))
                for name, box in self.boxes[model].items()
            }
        drawn = grid_seed(seed, replicate) if arm.on_grid else training_seed(seed, config_index, replicate)
        return PlannedRun(self.run_id(arm, model, slot), config_index, replicate, drawn, initial)

    def cell(self, model: int, index: int) -> dict[str, float]:
        """The hyperparameters of a cell of the grid; cells are numbered row-major, the last named axis fastest."""
        values = {name: (box.low + box.high) / 2 for name, box in self.boxes[model].items()}
        for axis, count in reversed(self.spec.grid.points.items()):
            index, position = divmod(index, count)
            for name in columns_of(axis, self.boxes[model]):
                box = self.boxes[model][name]
                if count > 1:
                    values[name] = box.low + (box.high - box.low) * (position / (count - 1))
        return values

    def run_id(self, arm: Arm, model: int, slot: int) -> str:
        """80 bits, in hexadecimal, of the hash of what affects the run's result and of its place."""
        config_index, replicate = divmod(slot, self.replicates(arm))
        return digest([self._identities[arm.on_grid][model], arm.name, config_index, replicate])[:20]

    @cached_property
    def _identities(self) -> tuple[list[str], list[str]]:
        """For each model, the hash of what affects its runs: of a configuration, and on the grid."""
        study = self.spec.identity
        for key in ("arms", "models", "replicates", "grid"):  # they say which runs there are, not what one is
            study.pop(key, None)
        models = [{**study, "model": dataclasses.asdict(config.model)} for config in self.configs]
        grid = list(self.spec.grid.points.items())
        return [digest(model) for model in models], [digest({**model, "grid": grid}) for model in models]

    def order(
        self, arm: Sequence[str], config_index: Sequence[int], replicate: Sequence[int], model: Sequence[str]
    ) -> npt.NDArray[np.int64]:
        """The position of runs in the published tables: by configuration, replicate, model and arm, then the grid."""
        number = _lookup(arm, [each.name for each in self.arms])
        replicates = np.array([self.replicates(each) for each in self.arms], np.int64)[number]
        slot = np.asarray(config_index, np.int64) * replicates + np.asarray(replicate, np.int64)
        index = self.index(_lookup(model, self.labels), slot)
        positions = np.zeros_like(index)
        start = 0
        for on_grid in (False, True):
            group = [each for each in self.arms if each.on_grid is on_grid]
            for rank, each in enumerate(group):
                mask = number == self.arms.index(each)
                positions[mask] = start + index[mask] * len(group) + rank
            start += sum(self.slots(each) for each in group) * len(self.labels)
        return positions


def _lookup(values: Sequence[str], table: Sequence[str]) -> npt.NDArray[np.int64]:
    unique, inverse = np.unique(np.asarray(values, dtype=object), return_inverse=True)
    numbers: npt.NDArray[np.int64] = np.array([table.index(value) for value in unique], np.int64)
    return numbers[inverse]


def columns_of(axis: str, boxes: dict[str, Range]) -> list[str]:
    """The columns that ``axis`` names: the one of this name, or all layers' or groups' of a built-in hyperparameter."""
    if axis in boxes or axis not in BUILT_IN:
        return [axis] if axis in boxes else []
    return [name for name in boxes if name.startswith(f"{axis}_")]


def _check_axes(axes: Iterable[str], boxes: dict[str, Range]) -> None:
    """Raise SpecError for an axis of the grid that is no hyperparameter, or moves one that another axis moves."""
    moved: dict[str, str] = {}
    for axis in axes:
        columns = columns_of(axis, boxes)
        if not columns:
            names = [name for name in BUILT_IN if columns_of(name, boxes)]
            allowed = shortened(", ".join(dict.fromkeys([*names, *boxes])), LONGEST_LINE)
            raise SpecError(f"grid.points.{shortened(axis)}: not a hyperparameter of this study; allowed: {allowed}")
        for column in columns:
            if column in moved:
                raise SpecError(f"grid.points.{axis}: moves {column}, as {moved[column]} does; name one of the two")
            moved[column] = axis


def make_plan(spec: StudySpec, pack_size: int | None = None) -> Plan:
    """The plan of ``spec``; raises :class:`SpecError` for hyperparameters that a model has not."""
    from trainers import boxes  # imports torch

    for config in spec.train_configs() if spec.trainer == "t1t2" else ():
        check_plannable(config)
    try:
        found = tuple(boxes(config) for config in spec.train_configs())
    except ConfigError as error:
        raise SpecError(str(error)) from None
    for model_boxes in found if spec.has_grid else ():
        _check_axes(spec.grid.points, model_boxes)
    return Plan(spec, pack_size or pack_size_of(spec), found)
