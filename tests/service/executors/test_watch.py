"""Who is taken for hung, and when: a clock of the test's own, and no process."""

from __future__ import annotations

import pytest

from service.executors.base import Place, Task
from service.executors.watch import LONGEST_LOOK_S, Clock, Patience, Pulse, Signs
from tests.service.executors.conformance import tasks_of
from tests.service.studies import toy_spec

HUNG_AFTER_S, LOAD_TIMEOUT_S = 300.0, 120.0


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    """Two of one kind, and one that is tuned."""
    found = tasks_of(toy_spec())
    plain = [task for task in found if not task.pack.arm.tuned and task.pack.model == 0][:2]
    return [*plain, next(task for task in found if task.pack.arm.tuned)]


def noticed_after(
    patience: Patience, tasks: list[Task], *, gives_every: float = 0.0, cores: float = 0.0, answers: bool = True
) -> float | None:
    """When a worker that begins ``tasks`` at time 0 is taken for hung; None if not within a day."""
    pulse, limit_s = Pulse(0.0), patience.limit_s(tasks)
    for now in range(1, 86_400):
        if pulse.question is not None and answers:
            given = int(now / gives_every) if gives_every else 0
            counts = patience.computing_counts(tasks)
            pulse.answers(Signs(Place(), given, cores * now), float(now), computing_counts=counts)
        if pulse.is_due(now, limit_s):
            pulse.asks("?", now)
        if pulse.is_hung(now, limit_s):
            return now
    return None


def test_a_process_that_is_stopped_and_one_that_waits_for_ever_are_hung(tasks: list[Task]) -> None:
    patience = Patience(HUNG_AFTER_S, LOAD_TIMEOUT_S)
    assert noticed_after(patience, tasks[:1], answers=False) == HUNG_AFTER_S
    assert noticed_after(patience, tasks[:1]) == HUNG_AFTER_S
    assert noticed_after(patience, []) == LOAD_TIMEOUT_S, "while it prepares itself"
    assert noticed_after(patience, tasks[:1], cores=0.001) == HUNG_AFTER_S, "a thread that looks now and then"


def test_records_are_signs_of_life_however_long_the_training(tasks: list[Task]) -> None:
    assert noticed_after(Patience(HUNG_AFTER_S, LOAD_TIMEOUT_S), tasks[:1], gives_every=250.0) is None


def test_computing_is_a_sign_of_life_until_the_kind_of_job_is_known(tasks: list[Task]) -> None:
    patience = Patience(HUNG_AFTER_S, LOAD_TIMEOUT_S)
    assert noticed_after(patience, tasks[:1], cores=1.0) is None
    assert noticed_after(patience, [], cores=1.0) is None
    patience.learn(tasks[0], 2.0)
    assert noticed_after(patience, tasks[1:2], cores=1.0) == HUNG_AFTER_S, "a loop without end"
    assert noticed_after(patience, tasks[2:], cores=1.0) is None, "another kind"


def test_patience_follows_from_the_longest_silence_of_the_kind(tasks: list[Task]) -> None:
    patience = Patience(HUNG_AFTER_S, LOAD_TIMEOUT_S)
    for silence_s in (5.0, 90.0, 60.0):
        patience.learn(tasks[0], silence_s)
    assert noticed_after(patience, tasks[1:2]) == 900.0
    assert noticed_after(patience, tasks[1:2], gives_every=800.0) is None
    patience.learn(tasks[2], 1.0)
    assert noticed_after(patience, tasks[2:]) == HUNG_AFTER_S
    assert patience.limit_s(tasks) == 900.0, "of several tasks, the most patient"


def test_an_unknown_kind_gets_twice_the_patience_at_each_attempt(tasks: list[Task]) -> None:
    patience = Patience(HUNG_AFTER_S, LOAD_TIMEOUT_S)
    limits = [patience.limit_s([tasks[0]._replace(attempt=attempt)]) / HUNG_AFTER_S for attempt in range(1, 10)]
    assert limits == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    patience.learn(tasks[0], 0.5)
    assert patience.limit_s([tasks[0]._replace(attempt=9)]) == HUNG_AFTER_S


def test_nobody_is_asked_who_has_not_been_silent_for_a_third_of_the_patience() -> None:
    pulse = Pulse(0.0)
    assert not pulse.is_due(99.0, HUNG_AFTER_S)
    assert pulse.is_due(100.0, HUNG_AFTER_S)
    pulse.asks("first", 100.0)
    assert not pulse.is_due(200.0, HUNG_AFTER_S), "it has yet to answer"
    pulse.answers(Signs(Place(), 4, 0.0), 200.0, computing_counts=False)
    assert not pulse.is_hung(200.0, HUNG_AFTER_S)
    pulse.asks("second", 225.0)
    pulse.answers(Signs(Place(), 5, 0.0), 226.0, computing_counts=False)
    assert not pulse.is_due(325.0, HUNG_AFTER_S), "a third after its sign of life"
    assert pulse.is_due(326.0, HUNG_AFTER_S)


def test_what_was_asked_of_earlier_work_is_forgotten() -> None:
    pulse = Pulse(0.0)
    pulse.asks("?", 150.0)  # it is stopped, with the answer to its last call on the way
    pulse.begins(160.0)
    assert not pulse.is_hung(459.0, HUNG_AFTER_S)
    assert pulse.is_due(260.0, HUNG_AFTER_S)
    pulse.asks("again", 260.0)
    assert pulse.is_hung(460.0, HUNG_AFTER_S)


def test_it_is_not_taken_for_hung_before_it_had_time_to_answer() -> None:
    pulse = Pulse(0.0)
    pulse.asks("?", 400.0)
    assert not pulse.is_hung(424.0, HUNG_AFTER_S)
    assert pulse.is_hung(425.0, HUNG_AFTER_S)


def test_a_driver_that_was_stopped_blames_nobody() -> None:
    clock = Clock(1000.0)
    assert clock.look(1001.0) == 1.0
    assert clock.look(1001.0 + 3600.0) == 1.0 + LONGEST_LOOK_S
    assert clock.look(4602.0) == 2.0 + LONGEST_LOOK_S
