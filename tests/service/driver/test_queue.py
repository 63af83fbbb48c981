"""The queue: what has come back first, then the plan in its order, each run once."""

from __future__ import annotations

from typing import Any

from service.driver.queue import Work, WorkQueue
from service.driver.states import RunStates
from service.ledger.recovery import Finals, RunState
from service.spec.arms import ARMS
from service.spec.plan import Pack, Plan, make_plan
from tests.service.driver.scripted import small_spec

ONLINE, RERUN = ARMS["online"], ARMS["rerun"]


def queue_of(plan: Plan, finals: Finals | None = None) -> tuple[WorkQueue, RunStates]:
    states = RunStates(plan, {arm: bytearray(count) for arm, count in plan.planned().items()})
    return WorkQueue(plan, states, finals or {}), states


def drain(queue: WorkQueue) -> list[tuple[Any, ...]]:
    """The arm and the slots of all that is left."""
    return [(work.pack.arm.name, *work.pack.slots) for work in iter(queue.pop, None)]


def test_all_that_waits_for_nothing_comes_once_in_the_order_of_the_plan() -> None:
    queue, states = queue_of(make_plan(small_spec()))
    assert drain(queue) == [("online", 0), ("initial", 0), ("online", 1), ("initial", 1), ("grid", 0), ("grid", 1)]
    assert states.pending(Pack(RERUN, 0, (0, 1))) == (0, 1)


def test_looking_takes_nothing_out() -> None:
    queue, _ = queue_of(make_plan(small_spec()))
    first = queue.peek()
    assert first is not None
    assert queue.peek() is first
    assert queue.pop() is first
    assert len(drain(queue)) == 5
    assert queue.peek() is None


def test_what_is_pushed_comes_before_the_rest_of_the_plan() -> None:
    queue, _ = queue_of(make_plan(small_spec()))
    first = queue.pop()
    assert first is not None
    again = Work(first.pack, alone=True)
    queue.push(again)
    assert queue.pop() is again
    assert len(drain(queue)) == 5


def test_followers_start_from_the_values_that_they_are_given() -> None:
    queue, states = queue_of(make_plan(small_spec(), pack_size=2))
    queue.push_followers(Pack(ONLINE, 0, (0, 1)), [{"a": 1.0}, {"a": 2.0}])
    assert queue.pop() == Work(Pack(RERUN, 0, (0, 1)), [{"a": 1.0}, {"a": 2.0}])
    assert states.pending(Pack(RERUN, 0, (0, 1))) == ()
    queue.push_followers(Pack(ARMS["grid"], 0, (0,)), [{}])
    assert "rerun" not in [arm for arm, *_ in drain(queue)]


def test_followers_that_are_done_are_not_pushed() -> None:
    queue, states = queue_of(make_plan(small_spec(), pack_size=2))
    states.end(Pack(RERUN, 0, (0,)), 0, RunState.COMPLETED)
    queue.push_followers(Pack(ONLINE, 0, (0, 1)), [{"a": 1.0}, {"a": 2.0}])
    assert queue.pop() == Work(Pack(RERUN, 0, (1,)), [{"a": 2.0}])


def test_followers_whose_leaders_ended_under_an_earlier_driver_come_with_their_block() -> None:
    plan = make_plan(small_spec())
    queue, states = queue_of(plan, {("rerun", 0, 1): {"a": 3.0}})
    states.end(Pack(ONLINE, 0, (1,)), 1, RunState.COMPLETED)
    left = list(iter(queue.pop, None))
    assert [work for work in left if work.pack.arm is RERUN] == [Work(Pack(RERUN, 0, (1,)), [{"a": 3.0}])]
    assert left[2].pack.arm is RERUN


def test_a_restart_gives_only_what_is_pending_then() -> None:
    small, large = (make_plan(small_spec(configurations=count)) for count in (1, 2))
    queue, states = queue_of(small)
    assert drain(queue) == [("online", 0), ("initial", 0), ("grid", 0), ("grid", 1)]
    states.extend(large)
    queue.restart(large)
    assert drain(queue) == [("online", 1), ("initial", 1)]
