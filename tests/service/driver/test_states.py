"""Where runs stand: a byte for each, and counts that agree with them."""

from __future__ import annotations

from service.driver.states import RunStates
from service.ledger.recovery import RunState
from service.spec.arms import ARMS
from service.spec.plan import Pack, Plan, make_plan
from tests.service.studies import toy_spec

ONLINE = ARMS["online"]


def fresh(plan: Plan) -> RunStates:
    return RunStates(plan, {arm: bytearray(count) for arm, count in plan.planned().items()})


def test_a_run_is_pending_then_taken_then_done() -> None:
    states = fresh(make_plan(toy_spec()))
    pack = Pack(ONLINE, 1, (0, 2))
    assert states.pending(pack) == (0, 2)
    states.take(pack)
    assert (states.pending(pack), states.ended) == ((), 0)
    states.end(pack, 2, RunState.DIVERGED)
    assert (states.ended, states.count(RunState.DIVERGED)) == (1, 1)
    assert states.done() == {"initial": 0, "online": 1, "rerun": 0, "grid": 0}
    assert states.pending(Pack(ONLINE, 0, (0, 1, 2))) == (0, 1, 2), "the other model's runs are others"


def test_what_a_ledger_holds_is_counted() -> None:
    plan = make_plan(toy_spec())
    held = {arm: bytearray(count) for arm, count in plan.planned().items()}
    held["grid"][:3] = bytes([RunState.COMPLETED, RunState.FAILED, RunState.COMPLETED])
    states = RunStates(plan, held)
    assert (states.count(RunState.COMPLETED), states.count(RunState.FAILED), states.ended) == (2, 1, 3)
    assert states.pending(Pack(ARMS["grid"], 0, (0, 1, 2))) == (2,), "runs 0 and 2 of model 0 are slots 0 and 1"


def test_an_extended_plan_keeps_where_its_first_runs_stand() -> None:
    small, large = (make_plan(toy_spec(configurations=count)) for count in (2, 4))
    states = fresh(small)
    states.end(Pack(ONLINE, 0, (1,)), 1, RunState.COMPLETED)
    states.extend(large)
    assert states.pending(Pack(ONLINE, 0, (0, 1, 2, 3))) == (0, 2, 3)


def test_what_is_taken_stays_so_when_the_ledger_is_read_again() -> None:
    plan = make_plan(toy_spec())
    states = fresh(plan)
    states.take(Pack(ONLINE, 0, (0,)))
    states.end(Pack(ONLINE, 0, (1,)), 1, RunState.FAILED)
    states.reread({arm: bytearray(count) for arm, count in plan.planned().items()})
    assert states.pending(Pack(ONLINE, 0, (0, 1, 2))) == (1, 2)
    assert states.count(RunState.FAILED) == 0
