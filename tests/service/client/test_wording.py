import dataclasses

import pytest

from service.client.wording import duration, event_line, outcome_counts, pace_line, rate, status_line, time_left
from service.records.events import Event
from service.records.progress import StudyState, StudyStatus
from tests.service.statuses import RUNNING


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0, "0 s"), (44.6, "45 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7440, "2 h 04 min")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_rates() -> None:
    assert rate(None) == "–"
    assert rate(2.0) == "2.0 runs/s"
    assert rate(0.8) == "48.0 runs/min"


def test_the_time_left_is_empty_where_the_study_is_finished_and_a_dash_where_unknown() -> None:
    assert time_left(RUNNING) == "1 h 02 min"
    assert time_left(dataclasses.replace(RUNNING, seconds_left=None)) == "–"
    assert time_left(dataclasses.replace(RUNNING, state="completed", seconds_left=None)) == ""


def test_lost_attempts_are_counted_where_there_are_any() -> None:
    assert outcome_counts(RUNNING) == {"completed": 58, "diverged": 1, "failed": 1, "attempts lost": 2}
    assert outcome_counts(dataclasses.replace(RUNNING, lost=0)) == {"completed": 58, "diverged": 1, "failed": 1}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("running", "of them not yet committed"),
        ("failed", "of them not committed"),
        ("interrupted", "of them perhaps not committed"),
    ],
)
def test_runs_that_are_not_committed_are_counted_where_there_are_any(state: StudyState, words: str) -> None:
    status = dataclasses.replace(RUNNING, state=state, uncommitted=35)
    assert outcome_counts(status)[words] == 35
    assert f"35 {words}" in status_line(status)
    assert "committed" not in status_line(RUNNING)


def test_the_pace_says_what_is_known() -> None:
    assert pace_line(RUNNING) == (
        "48.0 runs/min · 1 h 02 min left · 1 min 15 s so far · 2 actors, 2 runs in flight · 97% busy · driver host:123"
    )
    waiting = StudyStatus(
        name="demo", study_hash="", uri="", state="waiting", planned={"online": 1}, done={"online": 0}
    )
    assert pace_line(waiting) == "0 s so far"


def test_one_line_for_logs() -> None:
    line = status_line(RUNNING)
    assert line.startswith("demo: running, 60/1644 runs (initial 48/48, online 12/48, rerun 0/48, grid 0/1500); ")
    assert "1 diverged, 1 failed, 2 attempts lost; 48.0 runs/min" in line


def test_events_in_one_line() -> None:
    event = Event("2026-01-02T03:04:05.678+00:00", "node_lost", "10.0.0.7", {})
    assert event_line(event) == "03:04:05  node lost: 10.0.0.7"
    assert event_line(dataclasses.replace(event, message="")) == "03:04:05  node lost"
