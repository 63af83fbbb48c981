import dataclasses
import io

from rich.console import Console

from service.cli.display import live, print_studies, progress_view
from service.records.events import Event
from service.records.progress import StudyStatus
from tests.service.statuses import RUNNING

COMPLETED = dataclasses.replace(
    RUNNING, state="completed", done=RUNNING.planned, completed=1644, diverged=0, failed=0, lost=0
)


def shown(status: StudyStatus) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(progress_view(status))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_a_running_study_shows_arms_counts_rate_and_time_left() -> None:
    lines = shown(RUNNING).splitlines()
    assert lines[0] == "demo  running  studies/demo".ljust(len(lines[0]))
    rows = {line.split()[0]: line.split()[-4:] for line in lines[1:5]}
    assert rows["initial"] == ["48", "/", "48", "100%"]
    assert rows["online"] == ["12", "/", "48", "25%"]
    assert rows["grid"][-4:] == ["0", "/", "1,500", "0%"]
    assert "58 completed  1 diverged  1 failed  2 attempts lost" in lines[5]
    assert "48.0 runs/min · 1 h 02 min left · 1 min 15 s so far · 2 actors, 2 runs in flight · 97% busy" in lines[6]


def test_the_bar_is_as_long_as_the_share_done() -> None:
    def filled(done: int) -> int:
        status = dataclasses.replace(RUNNING, planned={"online": 48}, done={"online": done})
        console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard")
        console.print(progress_view(status))
        line = console.file.getvalue().splitlines()[1]  # type: ignore[attr-defined]
        return int(line.split("\x1b[")[1].count("━"))

    assert [filled(done) for done in (12, 24, 48)] == [9, 18, 36]


def test_a_finished_study_shows_no_time_left() -> None:
    text = shown(COMPLETED)
    assert "left" not in text
    assert "took 1 min 15 s" in text
    assert "lost" not in text


def test_a_study_whose_actors_are_starting_says_so() -> None:
    assert "actors are starting" in shown(dataclasses.replace(RUNNING, actors=0, in_flight=0))
    assert "actors are starting" not in shown(RUNNING)
    assert "actors are starting" not in shown(dataclasses.replace(COMPLETED, actors=0))


def test_an_error_is_shown() -> None:
    assert "disk full" in shown(dataclasses.replace(RUNNING, state="failed", error="disk full"))


def test_markup_in_a_name_or_message_is_text() -> None:
    assert "[red]" in shown(dataclasses.replace(RUNNING, uri="s3://bucket/[red]/demo"))


def test_the_table_of_studies_has_a_row_for_each() -> None:
    console = Console(file=io.StringIO(), width=160)
    other = dataclasses.replace(COMPLETED, name="[red]x", updated_at="2026-01-02T03:04:05.6")
    print_studies(console, [RUNNING, other])
    rows = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert rows[1] == ["demo", "running", "60", "1,644", "1", "1", "48.0", "runs/min", "1", "h", "02", "min"]
    assert rows[2] == ["[red]x", "completed", "1,644", "1,644", "0", "0", "48.0", "runs/min", "2026-01-02", "03:04:05"]


def test_a_log_gets_a_line_now_and_then_and_at_changes_of_state() -> None:
    console = Console(file=io.StringIO(), width=20)
    now = [0.0]
    with live(console, clock=lambda: now[0]) as (on_progress, on_event):
        for seconds in (0.0, 1.0, 9.0, 10.5, 11.0):
            now[0] = seconds
            on_progress(RUNNING)
        on_event(Event("2026-01-02T03:04:05+00:00", "runs_started", "chatter", {}))
        on_event(Event("2026-01-02T03:04:05+00:00", "run_failed", "r1: [bold]boom[/bold]", {}))
        on_progress(COMPLETED)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split(":")[0] for line in lines] == ["demo", "demo", "03", "demo"]  # whole lines, however narrow
    assert lines[2] == "03:04:05  run failed: r1: [bold]boom[/bold]"
    assert lines[3].startswith("demo: completed, 1644/1644 runs")


def test_a_terminal_gets_a_picture_that_is_redrawn_with_the_latest_events() -> None:
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True, color_system=None)
    with live(console) as (on_progress, on_event):
        on_progress(RUNNING)
        for number in range(7):
            on_event(Event("2026-01-02T03:04:05+00:00", "actor_lost", f"actor {number}", {}))
        on_progress(COMPLETED)
    last = console.file.getvalue().split("demo  completed")[-1]  # type: ignore[attr-defined]
    assert "1,644 completed" in last
    assert [f"actor {number}" in last for number in range(7)] == [False, False, True, True, True, True, True]
