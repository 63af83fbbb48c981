"""One training that is advanced from point to point, as Tune wants it: its reports, and its checkpoints as files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import SpecError
from service.spec.study_spec import StudySpec, located
from trainers.bounds import require
from trainers.config import ConfigError, TrainConfig
from trainers.errors import quoted
from trainers.records import Checkpoint, Member, Point, Record, Result

if TYPE_CHECKING:
    from trainers.costs import Costs
    from trainers.problem import Problem

SEED = "seed"  # the key of a trial's config that is no hyperparameter
TENSORS, START = "checkpoint.safetensors", "start.json"  # the files of a checkpoint
START_DIRECTORY = "TUNE_ORIG_WORKING_DIR"  # where Tune's driver was started; a trial has a directory of its own


def train_config(spec: StudySpec | Mapping[str, Any] | None, model: str | None = None) -> tuple[StudySpec, TrainConfig]:
    """The checked spec, and the settings of the trainings of the model with this label.

    ``model`` may be left out where the spec has one alone. Raises :class:`service.SpecError`.
    """
    if spec is None:
        raise SpecError("spec = None: must be given, as in tune.with_parameters(OnlineTrainable, spec=spec)")
    study = spec if isinstance(spec, StudySpec) else StudySpec.from_dict(spec)
    if study.trainer != "t1t2":
        raise SpecError(f"trainer = {quoted(study.trainer)}: must be 't1t2' for a training that Ray Tune steps through")
    configs = {config.model.label: config for config in located(study, _start_directory()).train_configs()}
    if model is None and len(configs) == 1:
        model = next(iter(configs))
    if model not in configs:
        raise SpecError(f"model = {quoted(model)}: must be one of the spec's, {', '.join(map(repr, configs))}")
    return study, configs[model]


def _start_directory() -> str:
    return os.environ.get(START_DIRECTORY) or os.getcwd()


def measured_costs(problem: Problem, config: TrainConfig) -> Costs:
    """What a training costs here, roughly: each actor that was not told waits for this, some tenths of a second."""
    from trainers.costs import measure_costs

    return measure_costs(problem, config, repeats=2)


class Training:
    """One run, from a trial's config: its ``seed``, and the start of each hyperparameter by column name.

    With ``online`` the hyperparameters move; without, they stay as they start. Raises
    :class:`trainers.ConfigError` for a key that is missing or unknown.
    """

    def __init__(
        self, problem: Problem, config: TrainConfig, start: Mapping[str, Any], *, seed: int, online: bool, costs: Costs
    ) -> None:
        self.member = _member(start, problem.layout.names, seed)
        self.problem, self.config, self.online, self.costs = problem, config, online, costs
        self.latest: Checkpoint | None = None  # of the last point that was reported; None before the first
        self._records = self._train()

    def _train(self, **begin: Checkpoint | None) -> Iterator[Record]:
        from trainers.loop import train

        every = self.config.record_every
        return iter(
            train(self.problem, self.config, [self.member], online=self.online, checkpoint_every=every, **begin)
        )

    def advance(self) -> dict[str, Any]:
        """Train to the next recorded point, and report it; ``done`` is true of the last one.

        A point is followed by its checkpoint, and the last one by the result, so this reads one record further.
        """
        point: Point | None = None
        for record in self._records:
            if isinstance(record, Point):
                point = record
            elif isinstance(record, Result):
                return self._cost(record.steps) | _end(record)
            else:
                self.latest = record
                if point is not None and math.isfinite(point.t2_loss):  # else it has diverged, and its result is next
                    return self._cost(point.step) | _report(point)
        raise RuntimeError("this training has ended: it has no further point")

    def _cost(self, step: int) -> dict[str, float]:
        """Inner-step equivalents up to a step, with an evaluation of T2 at each point after the start."""
        evaluations = -(-step // self.config.record_every)
        return {"compute": self.costs.compute(step, online=self.online, evaluations=evaluations)}

    def save(self, directory: str | Path) -> None:
        """Write the checkpoint of the last point, which its start tells from those of other runs.

        It is the point before the last one where the training has ended: who goes on from it trains the end again.
        """
        from trainers.checkpoint import save

        directory = Path(directory)
        if self.latest is not None:
            save(self.latest, directory / TENSORS)
        start = {SEED: self.member.seed, "hyperparameters": self.member.hyperparameters}
        (directory / START).write_text(json.dumps(start), encoding="utf-8")

    def load(self, directory: str | Path) -> None:
        """Go on from a checkpoint: exactly, if this run has written it, else with what it holds of another run.

        Raises :class:`trainers.ConfigError` where it is damaged, or of another configuration.
        """
        from trainers.checkpoint import load

        directory = Path(directory)
        self.latest = load(directory / TENSORS) if (directory / TENSORS).exists() else None
        is_own = _start_in(directory) == self.member
        begin = "resume" if is_own else "branch_from"
        self._records = self._train(**{begin: self.latest})


def _member(config: Mapping[str, Any], names: Sequence[str], seed: int) -> Member:
    """The run of a trial with this config, which may leave out the seed."""
    if set(config) - {SEED} != set(names):
        allowed = f"{sorted(names)} and, if trials are to differ in their draws, {SEED!r}"
        raise ConfigError(f"config of a trial = {quoted(sorted(config))}: must be {allowed}")
    for name in names:
        require(isinstance(config[name], Real), f"{name} of a trial", config[name], "a number")
    given = config.get(SEED, seed)
    require(isinstance(given, Integral), f"{SEED} of a trial", given, "a whole number")
    return Member(int(given), {name: float(config[name]) for name in names})


def _start_in(directory: Path) -> Member:
    """Whose checkpoint it is."""
    try:
        start = json.loads((directory / START).read_text(encoding="utf-8"))
        seed, values = start[SEED], start["hyperparameters"]
        require(type(seed) is int, SEED, seed, "a whole number")
        return Member(seed, {str(name): float(value) for name, value in values.items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{directory / START}: must be of a checkpoint that this trainable has written ({error!r})"
        ) from None


def _report(point: Point) -> dict[str, Any]:
    losses = {"t1_loss": point.t1_loss, "t2_loss": _or_worst(point.t2_loss)}
    return {"step": point.step, **losses, **point.hyperparameters, "done": False}


def _end(result: Result) -> dict[str, Any]:
    losses = {"t1_loss": result.t1_loss, "t2_loss": _or_worst(result.t2_loss)}
    measured = {name: getattr(result, name) for name in ("t2_error", "test_loss", "test_error", "train_time_s")}
    return {"step": result.steps, **losses, **result.final, **measured, "status": result.status, "done": True}


def _or_worst(loss: float) -> float:
    """A loss that Tune can rank: it cannot compare with NaN, and a training that diverged is worse than any other."""
    return loss if math.isfinite(loss) else math.inf
