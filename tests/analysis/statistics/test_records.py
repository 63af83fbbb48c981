from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.frames import NotComputable
from analysis.statistics.intervals import Estimate, unknown
from analysis.statistics.records import Row, computed, framed, to_plain

HALF = Estimate(value=0.5, low=0.4, high=0.6, n=9)


@dataclass(frozen=True, kw_only=True)
class Two(Row):
    bounds_of = "first"

    name: str
    first: Estimate
    second: Estimate


def test_an_estimate_is_three_columns_of_its_row() -> None:
    row = {"name": "a", "first": 0.5, "low": 0.4, "high": 0.6, "second": 0.5, "second_low": 0.4, "second_high": 0.6}
    two = Two(name="a", first=HALF, second=HALF)
    assert two.published() == row
    assert to_plain([two]) == [row]
    frame = framed(lambda: (two,))()
    assert isinstance(frame, pd.DataFrame)
    assert frame.to_dict("records") == [row]


def test_a_missing_statistic_is_known_by_its_type() -> None:
    missing = NotComputable("no run")
    assert framed(lambda: missing)() is missing
    assert computed(missing) is None
    assert computed(HALF) is HALF
    assert to_plain({"x": missing}) == {"x": {"not_computable": "no run"}}


def test_records_are_objects_and_frames_are_lists_of_rows() -> None:
    assert to_plain(HALF) == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    assert to_plain(unknown(3)) == {"value": None, "low": None, "high": None, "n": 3}
    assert to_plain(pd.DataFrame({"a": [1, 2], "b": [0.5, float("nan")]})) == [{"a": 1, "b": 0.5}, {"a": 2, "b": None}]


def test_plain_values() -> None:
    assert to_plain({"a": float("nan"), "b": 1 / 3, "c": (True, None, "x"), "d": float("inf")}) == {
        "a": None,
        "b": 0.333333,
        "c": [True, None, "x"],
        "d": None,
    }
