from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.frames import NotComputable
from analysis.statistics.baselines import (
    Standing,
    baseline_curve,
    baseline_standings,
    choices,
    standings,
    summarise_baselines,
    training_cost,
)
from analysis.study import Study
from tests.analysis.synthetic_baselines import EVALUATION, ONLINE_COST, STEP_S, STEPS, TRAINING, make_baselines

MODEL = "m"


def searches(
    losses: Sequence[Sequence[float]], arm: str = "random", price: float = 1.0, **columns: Any
) -> pd.DataFrame:
    """One search a repetition, whose runs cost ``price`` trainings of 100 inner steps each and end completed.

    ``losses`` are those on T2, by repetition; the test loss is 10 more.
    """
    runs = [
        {
            "config_index": k,
            "arm": arm,
            "replicate": repetition,
            "model": MODEL,
            "status": "completed",
            "t2_loss": loss,
            "test_loss": 10 + loss,
            "compute": 100 * price,
            "spent": 100 * price * (k + 1),
            "spent_s": 7.0 * price * (k + 1),
        }
        for repetition, search in enumerate(losses)
        for k, loss in enumerate(search)
    ]
    return pd.DataFrame(runs).assign(**columns)


def values(
    runs: pd.DataFrame, budgets: Sequence[float], metric: str = "test_loss", method: str = "random search"
) -> Any:
    """[repetition, budget]"""
    found = choices(runs, MODEL, training=100, budgets=budgets, metric=metric)
    return found[method].values.to_numpy()


def test_without_stopping_the_curve_is_the_mean_of_the_running_best() -> None:
    rng = np.random.default_rng(0)
    t2, test = rng.normal(size=(2, 20, 16))
    runs = searches(t2.tolist()).assign(test_loss=test.ravel())
    expected = [np.mean([test[r, min(range(k), key=lambda i: t2[r, i])] for r in range(20)]) for k in range(1, 17)]
    assert values(runs, range(1, 17)).mean(axis=0) == pytest.approx(expected)
    curve = baseline_curve(runs, MODEL, training=100)
    assert isinstance(curve, pd.DataFrame)
    whole = curve[curve["trainings"] % 1 == 0]
    assert whole["trainings"].tolist() == [1, 2, 4, 8, 16]
    assert whole["expected"].tolist() == pytest.approx([expected[k - 1] for k in (1, 2, 4, 8, 16)])
    assert (curve["low"] < curve["expected"]).all()
    assert (curve["n"] == 20).all()


def test_the_best_of_m_uniform_losses_is_covered() -> None:
    """Uniform losses on [0, 1]: the expected best of m is 1 / (m + 1)."""
    rng = np.random.default_rng(1)
    hits = []
    for k in range(40):
        curve = baseline_curve(searches(rng.random((20, 4)).tolist()), MODEL, training=100, metric="t2_loss", seed=k)
        assert isinstance(curve, pd.DataFrame)
        rows = curve[curve["trainings"].isin([1.0, 2.0, 4.0])]
        truth = 1 / (rows["trainings"] + 1)
        hits += ((rows["low"] <= truth) & (truth <= rows["high"])).tolist()
    assert len(hits) == 120
    assert np.mean(hits) >= 0.87


SEARCHES = st.lists(
    st.lists(
        st.tuples(
            st.one_of(st.floats(0, 9), st.just(float("nan")), st.just(float("inf"))),
            st.sampled_from(["completed", "completed", "diverged", "stopped", "failed"]),
            st.floats(0.1, 3),
        ),
        min_size=1,
        max_size=8,
    ),
    min_size=1,
    max_size=3,
)


@given(SEARCHES, st.randoms(use_true_random=False))
def test_what_is_chosen(drawn: list[list[tuple[float, str, float]]], random: Any) -> None:
    """Rows in any order; a larger budget never has a worse T2 loss; what has no sound end is never chosen."""
    runs = searches([[loss for loss, _, _ in search] for search in drawn])
    runs["status"] = [status for search in drawn for _, status, _ in search]
    runs["compute"] = [100 * cost for search in drawn for *_, cost in search]
    runs["spent"] = runs.groupby("replicate")["compute"].cumsum()
    budgets = [0.05, 0.5, 1.0, 2.0, 4.0, 8.0, 40.0]
    chosen = values(runs, budgets, "t2_loss")
    order = list(range(len(runs)))
    random.shuffle(order)
    np.testing.assert_array_equal(values(runs.iloc[order], budgets, "t2_loss"), chosen)
    np.testing.assert_array_equal(values(runs, budgets), 10 + chosen)
    sound = runs[(runs["status"] == "completed") & np.isfinite(runs["t2_loss"])]
    for repetition, row in enumerate(chosen):
        known = row[~np.isnan(row)]
        assert (np.diff(known) <= 0).all()
        own = sound[sound["replicate"] == repetition]
        assert set(known) <= set(own["t2_loss"])
        within = [own.loc[own["spent"] <= 100 * b * (1 + 1e-9), "t2_loss"].min() for b in budgets]
        np.testing.assert_array_equal(row, within)


def test_the_first_of_equals_is_chosen_and_sums_of_costs_may_be_rounded() -> None:
    runs = searches([[0.5, 0.5, 0.4]], price=0.1).assign(test_loss=[1.0, 2.0, 3.0])
    runs["spent"] = np.cumsum([10.0, 10.0, 10.0 + 1e-12])  # a little more than three tenths
    np.testing.assert_array_equal(values(runs, [0.05, 0.1, 0.2, 0.3]), [[np.nan, 1.0, 1.0, 3.0]])


def test_a_budget_at_which_a_repetition_has_no_choice_has_no_value() -> None:
    runs = searches([[3.0, 2.0], [1.0, 0.5]])
    runs["status"] = ["diverged", "completed", "completed", "completed"]
    runs.loc[0, "t2_loss"] = np.nan
    curve = baseline_curve(runs, MODEL, training=100)
    assert isinstance(curve, pd.DataFrame)
    assert curve[["trainings", "expected"]].to_numpy().tolist() == [[2.0, 11.25]]
    rows = standings(runs, MODEL, training=100)
    assert isinstance(rows, tuple)
    assert [(r.budget, r.expected.n) for r in rows] == [("1", 0), ("2", 2)]
    assert np.isnan(rows[0].seconds)


def test_a_population_chooses_at_its_end_and_the_largest_that_is_done_counts() -> None:
    four = searches([[0.4, 0.1, 0.6, 0.7], [0.5, 0.6, 0.3, 0.8]], "pbt-4", price=1.05)
    eight = searches([[0.9] * 7 + [0.2], [0.9] * 7 + [0.05]], "pbt-8", price=1.05)
    runs = pd.concat([eight, four])
    found = values(runs, [4.0, 4.2, 8.0, 8.4], "t2_loss", "PBT")
    np.testing.assert_array_equal(found, [[np.nan, 0.1, 0.1, 0.2], [np.nan, 0.3, 0.3, 0.05]])
    seconds = choices(runs, MODEL, training=100, budgets=[4.2, 8.4])["PBT"].seconds.to_numpy()
    np.testing.assert_allclose(seconds, [[29.4, 58.8]] * 2)
    curve = baseline_curve(runs, MODEL, training=100, metric="t2_loss")
    assert isinstance(curve, pd.DataFrame)
    np.testing.assert_allclose(curve[["trainings", "expected"]], [[4.2, 0.2], [8.4, 0.125]])
    table = baseline_standings(runs, MODEL, training=100)
    assert isinstance(table, pd.DataFrame)
    assert list(table["budget"]) == ["1", "2", "4", "PBT of 4", "8", "PBT of 8"]


def test_the_difference_to_online_is_paired_by_repetition() -> None:
    rng = np.random.default_rng(2)
    start = rng.normal(0, 1, (20, 1))  # what the methods share is far larger than what differs
    online = searches(start.tolist(), "online", price=1.5)
    runs = pd.concat(
        [
            online,
            searches((start + 0.1 + rng.normal(0, 0.02, (20, 1))).tolist(), "rerun", spent=250.0),
            searches((start - 0.1 + rng.normal(0, 0.02, (20, 1))).tolist(), "new", price=2.0),
            searches((start + np.tile([[-0.1], [0.1]], (10, 1))).tolist(), "asha"),
        ]
    )
    rows = standings(runs, MODEL, training=100)
    assert isinstance(rows, tuple)
    by = {(row.budget, row.method): row for row in rows}
    assert list(dict.fromkeys(row.method for row in rows)) == ["ASHA", "online", "online + rerun", "new"]
    assert list(dict.fromkeys((row.budget, row.trainings) for row in rows)) == [
        ("1", 1.0),
        ("one online", 1.5),
        ("2", 2.0),
        ("one online + rerun", 2.5),
    ]
    end = "one online + rerun"
    assert [by[end, method].verdict for method in ("new", "ASHA", "online + rerun", "online")] == [
        "ahead",
        "no difference",
        "behind",
        None,
    ]
    both = by[end, "online + rerun"]
    mean = (runs[runs["arm"] == "rerun"]["test_loss"] - online["test_loss"]).mean()
    assert both.difference.value == pytest.approx(mean)
    assert both.difference.high - both.difference.low < 0.03 < both.expected.high - both.expected.low
    assert both.difference.n == 20
    assert by["1", "ASHA"].verdict is None, "online has no choice yet"
    assert by["one online", "online"].seconds == pytest.approx(10.5)


def test_reruns_are_followed_as_far_as_the_searches_go_and_at_least_to_the_first() -> None:
    online = searches([[1.0] * 4], "online", price=1.0)
    reruns = searches([[1.0] * 4], "rerun", price=2.0)
    for runs, ends in (
        (pd.concat([online, reruns]), {"online": 4.0, "online + rerun": 4.0}),
        (pd.concat([online.iloc[:1], reruns.iloc[:1]]), {"online": 1.0, "online + rerun": 2.0}),
        (reruns, {"online + rerun": 8.0}),
    ):
        curve = baseline_curve(runs, MODEL, training=100)
        assert isinstance(curve, pd.DataFrame)
        assert curve.groupby("method")["trainings"].max().to_dict() == ends


def test_a_method_with_fewer_repetitions_is_compared_over_those_of_both() -> None:
    runs = pd.concat([searches([[1.0], [2.0], [3.0]], "online"), searches([[1.5], [2.0]], "tpe")])
    rows = standings(runs, MODEL, training=100)
    assert isinstance(rows, tuple)
    [tpe] = [row for row in rows if row.method == "TPE" and row.budget == "1"]
    assert (tpe.expected.n, tpe.difference.n, tpe.difference.value) == (2, 2, 0.25)


def test_a_whole_set_of_searches() -> None:
    runs = make_baselines(repetitions=8)
    rows = standings(runs, "mlp-64", training=TRAINING)
    assert isinstance(rows, tuple)
    assert len({row.method for row in rows}) == 10
    by: dict[tuple[str, str], Standing] = {(row.budget, row.method): row for row in rows}
    price = (STEPS * ONLINE_COST + EVALUATION) / TRAINING
    assert by["one online", "online"].trainings == pytest.approx(price)
    assert by["one online + rerun", "online"].trainings == pytest.approx(price + 1)
    assert by["one online", "random search"].verdict == "behind"
    assert by["16", "random search"].seconds == pytest.approx(16 * TRAINING * STEP_S, rel=0.05)
    curve = baseline_curve(runs, "mlp-64", training=TRAINING)
    assert isinstance(curve, pd.DataFrame)
    for method, part in curve.groupby("method"):
        at = part.set_index("trainings")["expected"]
        assert at.index.is_monotonic_increasing
        if 8.0 in at:
            assert at[8.0] == by["8", str(method)].expected.value
    again = baseline_curve(runs.sample(frac=1, random_state=0), "mlp-64", training=TRAINING)
    assert isinstance(again, pd.DataFrame)
    pd.testing.assert_frame_equal(again, curve)


def test_the_cost_of_a_training_is_that_of_its_steps_and_one_evaluation(study: Study) -> None:
    assert study.baselines is not None
    assert training_cost(study.baselines, "mlp-64") == STEPS + EVALUATION
    unknown = training_cost(study.baselines, "cnn")
    assert isinstance(unknown, NotComputable)
    assert unknown.reason.endswith("no measured costs of model cnn")
    assert isinstance(training_cost(study, "mlp-64"), NotComputable)
    found = summarise_baselines(study.baselines, ["mlp-64", "cnn"])
    assert isinstance(found["cnn"], NotComputable)
    assert not isinstance(found["mlp-64"], NotComputable)
    assert found["mlp-64"].repetitions == 6


def test_what_cannot_be_computed_says_why() -> None:
    runs = searches([[1.0]])
    for function in (baseline_curve, standings):
        for frame, model, words in (
            (runs.drop(columns=["spent", "spent_s"]), MODEL, "no column spent, spent_s"),
            (runs, "other", "no search of model other has a run"),
        ):
            found = function(frame, model, training=100)
            assert isinstance(found, NotComputable)
            assert words in found.reason
    nothing = baseline_curve(runs.assign(status="stopped"), MODEL, training=100)
    assert isinstance(nothing, NotComputable)
    assert nothing.reason == "no search of model m has a completed run"
