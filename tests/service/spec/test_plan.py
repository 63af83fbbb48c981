"""The plan: pure, lazy, and stable under extension."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import SpecError
from service.spec.arms import ARMS, Arm
from service.spec.plan import Plan, PlannedRun, make_plan
from tests.service.studies import toy_spec

INITIAL, ONLINE, RERUN, GRID = ARMS.values()


def runs(plan: Plan) -> list[PlannedRun]:
    """Every run that does not wait for another, in the order of work."""
    return [plan.run(*place) for place in places(plan)]


def places(plan: Plan) -> list[tuple[Arm, int, int]]:
    return [(pack.arm, pack.model, slot) for pack in plan.packs() for slot in pack.slots]


@pytest.mark.parametrize("pack_size", [1, 4])
def test_every_run_is_planned_once(pack_size: int) -> None:
    plan = make_plan(toy_spec(replicates=2), pack_size)
    found = runs(plan)
    assert len({run.run_id for run in found}) == len(found)
    planned = plan.planned()
    assert len(found) == sum(planned.values()) - planned["rerun"]
    assert planned == {"initial": 12, "online": 12, "rerun": 12, "grid": 24}


@given(first=st.integers(1, 12), more=st.integers(1, 12))
def test_drawing_more_configurations_keeps_the_first_ones(first: int, more: int) -> None:
    small, large = (make_plan(toy_spec(configurations=count)) for count in (first, first + more))
    drawn = {place: large.run(*place) for place in places(large)}
    assert {place: small.run(*place) for place in places(small)}.items() <= drawn.items()


def test_arms_and_models_of_a_configuration_are_paired() -> None:
    plan = make_plan(toy_spec())
    for slot in range(3):
        arms = [plan.run(arm, model, slot) for arm in (INITIAL, ONLINE) for model in (0, 1)]
        assert len({run.seed for run in arms}) == 1
        shared = {"log10_l2_layer1", "log10_l2_layer2", "input_noise_std"}
        assert len({tuple(run.initial[name] for name in sorted(shared)) for run in arms}) == 1


def test_a_cell_of_the_grid_shares_its_seed_with_the_other_cells_only() -> None:
    plan = make_plan(toy_spec())
    seeds = {plan.run(GRID, 0, slot).seed for slot in range(plan.slots(GRID))}
    assert len(seeds) == plan.spec.grid.replicates
    assert seeds.isdisjoint(plan.run(ONLINE, 0, slot).seed for slot in range(3))


def test_the_grid_spans_the_box_row_major() -> None:
    plan = make_plan(toy_spec(models=[{"hidden": [8]}]))
    cells = [tuple(plan.cell(0, index).values()) for index in range(6)]
    assert cells == [(l2, l2, noise) for l2, noise in itertools.product([-5.0, -3.5, -2.0], [0.0, 1.0])]


def test_a_hyperparameter_outside_the_grid_stays_at_the_centre() -> None:
    plan = make_plan(toy_spec(grid={"points": {"input_noise_std": 2, "log10_l2_layer1": 1}}))
    assert plan.cell(0, 0)["log10_l2_layer1"] == -3.5
    assert plan.cell(0, 0)["log10_l2_layer2"] == -3.5


def test_a_grid_over_an_unknown_hyperparameter_is_refused() -> None:
    with pytest.raises(SpecError, match=r"grid.points.label_smoothing: not a hyperparameter .* log10_l2_layer1"):
        make_plan(toy_spec(grid={"points": {"label_smoothing": 2}}))


@pytest.mark.parametrize(
    "axis", ["log10", "input", "log10_l2_layer", "log10_l2_layer10", "input_noise", "", "hidden_noise_std"]
)
def test_an_axis_is_no_mere_beginning_of_a_name(axis: str) -> None:
    with pytest.raises(SpecError, match=rf"grid.points.{axis}: not .*: log10_l2, input_noise_std, log10_l2_layer1, "):
        make_plan(toy_spec(models=[{"hidden": [8]}], grid={"points": {axis: 2}}))


def test_no_two_axes_move_one_hyperparameter() -> None:
    with pytest.raises(SpecError, match=r"grid.points.log10_l2: moves log10_l2_layer1, as log10_l2_layer1 does"):
        make_plan(toy_spec(grid={"points": {"log10_l2_layer1": 2, "log10_l2": 3}}))


def test_initial_values_are_uniform_and_independent() -> None:
    plan = make_plan(toy_spec(configurations=500, models=[{"hidden": [8]}]))
    values = np.array([list(plan.run(INITIAL, 0, slot).initial.values()) for slot in range(500)])
    scaled = (values - [-5, -5, 0]) / [3, 3, 1]
    assert ((scaled >= 0) & (scaled < 1)).all()
    assert np.abs(scaled.mean(0) - 0.5).max() < 4 * np.sqrt(1 / 12 / 500)
    assert np.abs(np.corrcoef(scaled.T) - np.eye(3)).max() < 4 / np.sqrt(500)


def test_seeds_and_values_are_pinned() -> None:
    """A change here changes every study made before: flag it in CHANGELOG.md."""
    run = make_plan(toy_spec()).run(ONLINE, 1, 2)
    assert run.seed == 3280586427470477379
    assert run.initial == {
        "log10_l2_layer1": -4.1783831255451895,
        "log10_l2_layer2": -3.377445733819136,
        "input_noise_std": 0.8379816250550192,
    }


def test_the_order_of_tables_is_that_of_the_plan() -> None:
    plan = make_plan(toy_spec(replicates=2))
    planned = [
        (arm.name, *divmod(slot, plan.replicates(arm)), plan.labels[model])
        for arm in plan.arms
        for model in range(2)
        for slot in range(plan.slots(arm))
    ]
    positions = plan.order(*zip(*planned, strict=True))
    assert sorted(positions) == list(range(len(planned)))
    ordered = [run for _, run in sorted(zip(positions, planned, strict=True))]
    assert [run[0] for run in ordered[:6]] == ["initial", "online", "rerun"] * 2
    assert all(run[0] == "grid" for run in ordered[36:])


def test_a_large_plan_takes_no_memory() -> None:
    plan = make_plan(toy_spec(configurations=10**7))
    assert next(iter(plan.packs())).slots == (0,)
    assert plan.run(ONLINE, 0, 10**7 - 1).config_index == 10**7 - 1


def test_a_rerun_starts_where_it_is_told_and_shares_all_else_with_its_online_run() -> None:
    plan = make_plan(toy_spec())
    online, rerun = plan.run(ONLINE, 1, 2), plan.run(RERUN, 1, 2, {"log10_l2_layer1": -9.0})
    assert rerun.initial == {"log10_l2_layer1": -9.0}
    assert (rerun.seed, rerun.config_index, rerun.replicate) == (online.seed, online.config_index, online.replicate)
    assert rerun.run_id != online.run_id


def test_work_starts_block_by_block_with_the_arm_of_the_highest_priority_and_ends_on_the_grid() -> None:
    plan = make_plan(toy_spec(models=[{"hidden": [8]}], configurations=3), pack_size=2)
    assert [(pack.arm.name, pack.slots) for pack in plan.packs()][:5] == [
        ("online", (0, 1)),
        ("initial", (0, 1)),
        ("online", (2,)),
        ("initial", (2,)),
        ("grid", (0, 1)),
    ]


def test_a_place_and_its_number_within_the_arm_name_each_other() -> None:
    plan = make_plan(toy_spec(replicates=2))
    numbers = [plan.index(model, slot) for slot in range(plan.slots(ONLINE)) for model in range(2)]
    assert numbers == list(range(12))
    assert [plan.index(*plan.place(number)) for number in numbers] == numbers
    assert plan.slot(ONLINE, config_index=2, replicate=1) == 5
    assert plan.slot(GRID, config_index=2, replicate=1) == 5
    assert plan.run(GRID, 0, 5).config_index == plan.run(ONLINE, 0, 5).config_index == 2
