"""Trainers that yield what cannot be kept: their runs fail with the reason, and nothing else does."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service import read_events, run_study
from service.executors.base import Finished, Outcome, Trained, WorkerSetup
from service.executors.received import MEASURES, reason, unsound
from service.executors.serial import SerialExecutor
from service.executors.worker import Worker, job_of
from tests.service.executors.conformance import tasks_of
from tests.service.studies import run_serially, table, toy_spec
from tests.service.toy import train
from trainers.records import Checkpoint, Point, Record, Result

MISCHIEF: list[Callable[[list[Any]], Any]] = []  # what is made of the records of a run before they are yielded
ONE: dict[str, Any] = {"models": [{"hidden": [4]}], "arms": ["initial", "online", "rerun"], "grid": {}}


def mischievous(config: Any, members: Any, **options: Any) -> Iterator[Record]:
    """Yields what :data:`MISCHIEF` makes of the toy's records of a member with an odd seed, and else the toy's own."""
    records: list[Any] = list(train(config, members, online=options["online"]))
    for i, member in enumerate(members):
        of_member = records[3 * i : 3 * i + 3]  # two points and the result
        yield from MISCHIEF[0](of_member) if member.seed % 2 else of_member


class Unspeakable:
    """What not even a message can show."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


def attempted(mischief: Callable[[list[Any]], Any], members: int = 1) -> Outcome:
    MISCHIEF[:] = [mischief]
    spec = toy_spec(execution={"runs_per_actor": members}, configurations=9, **ONE)
    task = next(task for task in tasks_of(spec) if task.runs[0].seed % 2 and len(task.runs) == members)
    worker = Worker(WorkerSetup(configs=spec.train_configs(), trainer=f"{__name__}:mischievous"))
    return worker.attempt(job_of(task)).outcome(task)


def changed(place: int, **values: Any) -> Callable[[list[Any]], list[Any]]:
    """The record at this place (the points are 0 and 1, the result is 2) with other values."""
    return lambda records: [*records[:place], replace(records[place], **values), *records[place:][1:]]


BAD: dict[str, tuple[Callable[[list[Any]], Any], str]] = {
    "a string for a loss": (changed(2, t2_loss="0.3"), "Result.t2_loss = '0.3': must be a number"),
    "None for a loss": (changed(2, test_loss=None), "Result.test_loss = None: must be a number"),
    "a tensor for a loss": (changed(2, t1_loss=torch.ones(2)), "Result.t1_loss = tensor([1., 1.]): must be a number"),
    "a truth for an error": (changed(2, t2_error=True), "Result.t2_error = True: must be a number"),
    "an unknown status": (changed(2, status="done"), "Result.status = 'done': must be 'completed' or 'diverged'"),
    "no status": (changed(2, status=None), "Result.status = None: must be"),
    "a member that is not there": (changed(2, member=7), "Result.member = 7: must be in [0, 0]"),
    "half a member": (changed(2, member=0.5), "Result.member = 0.5: must be a whole number"),
    "steps beyond 64 bits": (changed(2, steps=2**63), f"Result.steps = {2**63}: must be at least 0 and below 2^63"),
    "a time that is none": (changed(2, train_time_s=math.nan), "Result.train_time_s = nan: must be finite"),
    "other final values": (changed(2, final={"a": 1.0}), "Result.final = {'a': 1.0}: must be a dict"),
    "a final value that is not finite": (
        lambda r: changed(2, final=dict.fromkeys(r[2].final, math.inf))(r),
        "Result.final.log10_l2_layer1 = inf: must be finite",
    ),
    "a string in a point": (changed(0, t1_loss="x"), "Point, t1_loss = 'x': must be a number"),
    "a point far away": (changed(1, step=2**70), f"Point.step = {2**70}: must be at least 0, below 2^63"),
    "two points of one step": (changed(1, step=0), "Point.step = 0: must be at least 0, below 2^63 and beyond the"),
    "a point of nobody": (changed(1, member=3), "Point.member = 3: must be in [0, 0]"),
    "a point without values": (changed(1, hyperparameters={}), "must be the same in all"),
    "a point with others": (changed(0, hyperparameters={"x": 1.0}), "Point.hyperparameters = {'x': 1.0}: must be a"),
    "a point with none": (changed(1, hypergradient=None), "must be the same in all"),
    "a value that is not finite": (
        lambda r: changed(1, hyperparameters=dict.fromkeys(r[1].hyperparameters, math.nan))(r),
        "Point.hyperparameters, log10_l2_layer1 = nan: must be finite",
    ),
    "a point after the result": (lambda r: [r[0], r[2], r[1]], "has its result already; must come before it"),
    "two results": (lambda r: [*r, r[2]], "Result.member = 0: has a result already; must be one for each member"),
    "no result": (lambda r: r[:2], "results for members [] of a pack of 1: must be one for each"),
    "no record": (lambda r: [None], "the trainer yielded None: must be a Point, a Checkpoint or a Result"),
    "what cannot be shown": (lambda r: [Unspeakable()], "the trainer yielded a Unspeakable: must be"),
    "a very long string": (changed(2, status="x" * 10**7), "(10000002 characters): must be 'completed' or 'diverged'"),
    "a number beyond floats": (changed(2, t2_loss=10**400), "must be a number (OverflowError: "),
    "an end": (lambda r: sys.exit(3), "SystemExit: the training called sys.exit(3)"),
    "nothing to go through": (lambda r: 5, "TypeError: 'int' object is not iterable"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_fails_its_run_with_the_reason(name: str) -> None:
    mischief, words = BAD[name]
    error = getattr(attempted(mischief), "error", "no error")
    assert words in error
    assert len(error) <= 500


def test_numbers_of_numpy_and_torch_are_kept_as_floats() -> None:
    def converted(records: list[Any]) -> list[Any]:
        tensors = {name: torch.tensor(value).double() for name, value in records[1].hyperparameters.items()}
        return [
            replace(records[0], step=np.int64(0), t1_loss=torch.tensor(1.0), t2_loss=np.float64(0.5)),
            replace(records[1], hyperparameters=tensors),
            replace(records[2], t1_loss=np.float32(0.5), t2_loss=np.array(0.25), t2_error=0, steps=torch.tensor(100)),
        ]

    calm, outcome = attempted(lambda records: records), attempted(converted)
    assert isinstance(calm, Finished)
    assert isinstance(outcome, Finished)
    (result,) = outcome.trained.results
    assert (result.t1_loss, result.t2_loss, result.t2_error, result.steps) == (0.5, 0.25, 0.0, 100)
    kinds = {type(getattr(result, field.name)) for field in fields(Result)}
    assert kinds == {int, str, float, dict}
    for name, column in outcome.trained.points.items():
        assert column[0] == calm.trained.points[name][0] or math.isnan(column[0])
        assert {type(value) for value in column} == {int if name in ("member", "step") else float}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("value", [math.nan, math.inf, torch.tensor(math.nan)])
def test_a_completed_run_with_a_loss_that_is_not_finite_has_diverged(measure: str, value: Any) -> None:
    outcome = attempted(changed(2, **{measure: value}))
    assert isinstance(outcome, Finished)
    assert outcome.trained.results[0].status == "diverged"


def test_in_a_pack_that_run_alone_fails(tmp_path: Path) -> None:
    MISCHIEF[:] = [changed(2, t2_loss="0.3")]
    spec = toy_spec(trainer=f"{__name__}:mischievous", configurations=6, execution={"runs_per_actor": 3}, **ONE)
    status = run_serially(spec, tmp_path / "toy")
    runs = table(tmp_path / "toy")
    assert status.state == "completed"
    assert {(seed % 2, found) for seed, found in zip(runs["seed"], runs["status"], strict=True)} == {
        (0, "completed"),
        (1, "failed"),
    }


def test_a_resumed_attempt_checks_its_points_against_those_of_the_checkpoint(tmp_path: Path) -> None:
    spec = toy_spec(execution={"checkpoint_every": 5}, **ONE)
    task = next(task for task in tasks_of(spec) if task.runs[0].seed % 2)
    worker = Worker(
        WorkerSetup(
            configs=spec.train_configs(), trainer=f"{__name__}:mischievous", storage=str(tmp_path), checkpoint_every=5
        )
    )
    MISCHIEF[:] = [lambda r: [r[0], r[1], Checkpoint(2000, {"x": torch.ones(2)}), None]]
    assert "yielded None" in str(worker.attempt(job_of(task)).result)
    MISCHIEF[:] = [lambda r: [r[1], r[2]]]  # the second point once more
    assert "Point.step = 2000: must be at least 0" in str(worker.attempt(job_of(task)).result)
    MISCHIEF[:] = [lambda r: [r[2]]]
    result = worker.attempt(job_of(task)).result
    assert isinstance(result, Trained)
    assert result.points["step"] == [0, 2000]


anything: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.dictionaries(st.text(max_size=3), st.floats(), max_size=2),
    st.dictionaries(st.just("input_noise_std"), st.floats()),
    st.lists(st.floats(), max_size=2),
    st.complex_numbers(),
    st.sampled_from([2**63, -(2**63) - 1, 10**400, "\ud800", object, Unspeakable(), torch.ones(3), torch.ones(0)]),
    st.builds(np.float32, st.floats(width=32)),
    st.builds(torch.tensor, st.floats()),
)
a_field = st.one_of(
    st.tuples(st.integers(0, 1), st.sampled_from([f.name for f in fields(Point)])),
    st.tuples(st.just(2), st.sampled_from([f.name for f in fields(Result)])),
)


@settings(max_examples=80, deadline=None)
@given(field=a_field, value=anything)
@example(field=(2, "status"), value="\ud800")
@example(field=(2, "t2_loss"), value=torch.ones(3))
@example(field=(1, "step"), value=2**64)
def test_any_value_in_any_field_ends_the_run_and_not_the_driver(field: tuple[int, str], value: Any) -> None:
    place, name = field
    MISCHIEF[:] = [changed(place, **{name: value})]
    spec = toy_spec(
        trainer=f"{__name__}:mischievous", configurations=2, models=[{"hidden": [4]}], arms=["online", "rerun"], grid={}
    )
    with tempfile.TemporaryDirectory() as out:
        status = run_serially(spec, f"{out}/toy")
        runs, points = table(f"{out}/toy"), table(f"{out}/toy", "trajectories")
    assert (status.state, status.total_done) == ("completed", 4)
    assert set(runs["status"]) <= {"completed", "diverged", "failed"}
    assert runs.loc[runs["status"] == "completed", list(MEASURES)].notna().all(axis=None)
    kept = runs[runs["status"] != "failed"]
    assert set(points["run_id"]) <= set(kept["run_id"])
    assert np.isfinite(kept[[column for column in map(str, kept) if column.endswith("_final")]]).all(axis=None)


class Careless(SerialExecutor):
    """An executor that hands over what no worker of ours does: it did not look."""

    def wait(self, timeout_s: float) -> list[Outcome]:
        outcomes = super().wait(timeout_s)
        for outcome in outcomes:
            if isinstance(outcome, Finished) and outcome.task.runs[0].seed % 2:
                outcome.trained.points["t1_loss"][0] = cast(Any, torch.ones(2))
        return outcomes


def test_the_driver_outlives_an_executor_that_hands_over_what_arrow_cannot_take(tmp_path: Path) -> None:
    status = run_study(toy_spec(configurations=4, **ONE), tmp_path / "toy", executor=Careless())
    assert (status.state, status.total_done) == ("completed", 12)
    runs = table(tmp_path / "toy")
    assert set(runs.loc[runs["seed"] % 2 == 1, "error"].dropna()) >= {"points: 't1_loss' must hold floats alone"}
    assert status.completed > 0
    assert any(event.kind == "run_failed" for event in read_events(str(tmp_path / "toy")))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda trained: trained.results.clear(), "there are 0 results for a pack of 2"),
        (lambda trained: trained.results.reverse(), "must be one for each member, in order"),
        (lambda trained: trained.points["step"].pop(), "the points have columns of [3, 4] values: must agree"),
        (lambda trained: trained.points["step"].__setitem__(0, 2**63), "points: 'step' holds"),
        (lambda trained: trained.points["member"].__setitem__(0, 2), "points: 'member' holds"),
        (lambda trained: trained.points["member"].__setitem__(0, 0.0), "points: 'member' must hold whole numbers"),
        (lambda trained: trained.results.__setitem__(0, replace(trained.results[0], status="x")), "Result.status"),
        (lambda trained: trained.results.__setitem__(0, replace(trained.results[0], t2_loss="x")), "must be floats"),
    ],
)
def test_what_the_driver_looks_for(spoil: Callable[[Trained], object], words: str) -> None:
    outcome = attempted(lambda records: records, members=2)
    assert isinstance(outcome, Finished)
    assert unsound(outcome.trained, outcome.task.runs) is None
    spoil(outcome.trained)
    assert words in str(unsound(outcome.trained, outcome.task.runs))


def test_a_reason_is_one_line_that_any_file_can_hold() -> None:
    class Mute(Exception):  # a user's own
        def __str__(self) -> str:
            raise RuntimeError

    assert reason(Mute()) == "Mute: (its message cannot be read)"
    assert reason(ValueError("a\nb \ud800")) == "ValueError: a b ?"
    assert len(reason(ValueError("x" * 10**6))) == 500
