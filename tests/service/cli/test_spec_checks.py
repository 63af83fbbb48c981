"""What `t1t2 doctor --spec` finds in a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.cli.checks import Check
from service.cli.spec_checks import check_actors, check_code, check_plan, examine_spec
from tests.service.studies import toy_spec


def found(**values: Any) -> dict[str, Check]:
    return {check.name: check for check in examine_spec(toy_spec(**values))}


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_a_sound_spec() -> None:
    spec = toy_spec(trainer="t1t2")
    assert check_code(spec) == Check("code of the spec", "ok", "the spec names none of your own")
    plan = check_plan(spec)
    assert (plan.status, plan.found) == ("ok", "42 runs (6 initial, 6 online, 6 rerun, 24 grid)")


def test_an_axis_that_is_none_is_found() -> None:
    check = check_plan(toy_spec(trainer="t1t2", grid={"points": {"log10": 3}}))
    assert check.status == "failed"
    assert "grid.points.log10: " in check.found


def test_a_trainer_that_is_missing_is_found_and_the_axis_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.spec_checks.check_actors", lambda spec: Check("actors of the spec", "ok", ""))
    checks = found(trainer="no_such_module:train", grid={"points": {"log10": 3}})
    assert [check.status for check in checks.values()] == ["failed", "failed", "ok"]
    assert "trainer = 'no_such_module:train': cannot be imported" in checks["code of the spec"].found
    assert "grid.points.log10" in checks["plan of the spec"].found


def test_a_model_that_is_missing_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.spec_checks.check_actors", lambda spec: Check("actors of the spec", "ok", ""))
    assert list(found(trainer="t1t2", models=[{"name": "no_such_module:net"}])) == [
        "code of the spec",
        "actors of the spec",
    ]


def test_a_trainer_of_ones_own_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("def train(*_, **__):\n    yield\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    check = check_code(toy_spec(trainer="mine:train"))
    assert (check.status, check.found) == ("ok", "tried: trainer = 'mine:train'")


@pytest.mark.slow
def test_actors_that_no_node_can_hold_are_found() -> None:
    check = check_actors(toy_spec(execution={"gpus_per_actor": 8}))
    assert check.status == "failed"
    assert "execution: an actor needs 1 CPU, 8 GPU, and no node has that" in check.found
    assert check_actors(toy_spec(execution={"actors": 1})) == Check("actors of the spec", "ok", "1 on this machine")
