from __future__ import annotations

import pytest

from analysis.report.text import number, p_value, share, word
from analysis.statistics.intervals import Estimate, unknown


def estimate(value: float, low: float = float("nan"), high: float = float("nan")) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=10)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (estimate(0.7523, 0.6312, 0.84), "75 % [63, 84]"),
        (estimate(0.1), "10 %"),
        (0.1, "10 %"),
        (None, "–"),
        (float("nan"), "–"),
        (unknown(), "–"),
    ],
)
def test_shares_as_a_reader_sees_them(value: Estimate | float | None, cell: str) -> None:
    assert share(value) == cell


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (estimate(-0.00378, -0.00543, -0.000223), "−0.00378 [−0.00543, −0.00022]"),
        (estimate(1.1156, 1.1, 1.13), "1.12 [1.10, 1.13]"),
        (0.0, "0"),
        (123456.0, "123456"),
        (1.5e-7, "1.5e−07"),
        (float("inf"), "–"),
        (None, "–"),
    ],
)
def test_numbers_as_a_reader_sees_them(value: Estimate | float | None, cell: str) -> None:
    assert number(value) == cell


def test_a_cell_rounds_the_number_that_the_summary_holds() -> None:
    assert number(0.1234499999, 4) == "0.1235"  # it is 0.12345 in summary.json


def test_p_values_as_a_reader_sees_them() -> None:
    assert [p_value(v) for v in (0.0004, 0.0312, 1.0, None, float("nan"))] == ["< 0.001", "0.031", "1.000", "–", "–"]


def test_words_counts_and_verdicts() -> None:
    assert [word(v) for v in ("rerun", 12, True, False, None, float("nan"))] == ["rerun", "12", "yes", "no", "–", "–"]
