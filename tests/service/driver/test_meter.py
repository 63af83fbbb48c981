"""Rate and utilisation, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.driver.meter import WINDOW_S, Meter


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass."""
    time = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: time[0])

    def advance(seconds: float) -> None:
        time[0] += seconds

    return advance


def test_nothing_is_known_before_a_run_has_ended(wait: Callable[[float], None]) -> None:
    meter = Meter()
    wait(3.0)
    meter.tick(workers=2)
    assert (meter.runs_per_s, meter.utilisation, meter.elapsed_s) == (None, None, 3.0)


def test_the_rate_is_that_of_the_last_minute(wait: Callable[[float], None]) -> None:
    meter = Meter()
    meter.tick(workers=1)
    for _ in range(100):  # long ago, one a second
        wait(1.0)
        meter.ended(1, 0.5)
        meter.tick(workers=1)
    assert meter.runs_per_s == pytest.approx(1.0)
    for _ in range(int(WINDOW_S) + 1):
        wait(1.0)
        meter.ended(5, 0.5)
        meter.tick(workers=1)
    assert meter.runs_per_s == pytest.approx(5.0)


def test_where_nothing_ends_within_a_minute_the_rate_is_that_of_all_the_time(wait: Callable[[float], None]) -> None:
    meter = Meter()
    meter.ended(4, 1.0)
    for _ in range(3):
        wait(100.0)
        meter.tick(workers=1)
    assert meter.runs_per_s == pytest.approx(4 / 300)


def test_utilisation_is_the_share_of_the_workers_time_that_ended_runs_took(wait: Callable[[float], None]) -> None:
    meter = Meter()
    wait(10.0)
    meter.tick(workers=0)  # nobody was ready
    wait(10.0)
    meter.ended(3, 5.0)
    meter.tick(workers=2)
    assert meter.utilisation == pytest.approx(0.25)
