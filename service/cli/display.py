"""How a study's progress looks: a live picture on a terminal, plain lines in a log.

Everything is drawn from one :class:`service.StudyStatus`, so a driver's own display (``run``) and a display on another
machine (``watch``, which reads the storage alone) are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from service import Event, StudyStatus

PLAIN_EVERY_S = 10.0  # between two lines of a log
EVENTS_KEPT = 5
STATE_STYLES = {
    "completed": "bold green",
    "running": "bold cyan",
    "paused": "bold yellow",
    "waiting": "bold yellow",
    "cancelled": "bold magenta",
    "interrupted": "bold yellow",
    "failed": "bold red",
    "unreadable": "bold red",
}
# What a person wants to see among the events; the rest is in the study's events/ files.
WARNINGS = frozenset(
    {"node_lost", "actor_lost", "run_diverged", "run_failed", "run_lost", "shard_corrupt", "storage_retry"}
)
TOLD_EVENTS = WARNINGS | {
    "study_started",
    "resumed",
    "node_added",
    "node_draining",
    "retry",
    "paused",
    "unpaused",
    "extended",
    "cancelled",
    "interrupted",
}


def duration(seconds: float | None) -> str:
    """``seconds`` for a reader: ``"45 s"``, ``"3 min 05 s"``, ``"2 h 04 min"``; an en dash where unknown."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {left:02d} s" if minutes else f"{left} s"


def rate(runs_per_s: float | None) -> str:
    """Runs a second, or a minute where it is slow."""
    if runs_per_s is None:
        return "–"
    return f"{runs_per_s:.1f} runs/s" if runs_per_s >= 1 else f"{60 * runs_per_s:.1f} runs/min"


def outcome_counts(status: StudyStatus) -> list[tuple[str, str]]:
    """(text, style) of completed, diverged and failed runs and of lost attempts; the last only where there are any."""
    counts = [
        (f"{status.completed:,} completed", "green" if status.completed else ""),
        (f"{status.diverged:,} diverged", "yellow" if status.diverged else ""),
        (f"{status.failed:,} failed", "bold red" if status.failed else ""),
    ]
    return [*counts, (f"{status.lost:,} attempts lost", "magenta")] if status.lost else counts


def progress_view(status: StudyStatus) -> RenderableType:
    """The study's state, a bar for each arm, and the counts, rate and time left."""
    state = (status.state, STATE_STYLES.get(status.state, ""))
    head = Text.assemble((status.name, "bold"), "  ", state, "  ", (status.uri, "dim"))
    bars = Table.grid(padding=(0, 2))
    for arm, planned in status.planned.items():
        done = status.done.get(arm, 0)
        share = f"{done / planned:4.0%}" if planned else ""
        bars.add_row(
            Text(arm),
            ProgressBar(total=max(planned, 1), completed=done, width=36),
            Text(f"{done:,} / {planned:,}", justify="right"),
            Text(share, style="dim", justify="right"),
        )
    counts = Text("  ").join(Text(text, style=style) for text, style in outcome_counts(status))
    pace = Text(pace_line(status), style="dim")
    parts: list[RenderableType] = [head, bars, counts, pace]
    if status.error:
        parts.append(Text(status.error, style="bold red"))
    return Group(*parts)


def pace_line(status: StudyStatus) -> str:
    """Rate, time left, time used, and how busy the actors are, as far as they are known."""
    words = [rate(status.runs_per_s)] if status.runs_per_s is not None else []
    if not status.finished and status.seconds_left is not None:
        words.append(f"{duration(status.seconds_left)} left")
    used = duration(status.elapsed_s)
    words.append(f"took {used}" if status.finished else f"{used} so far")
    if status.actors and not status.finished:
        words.append(f"{status.actors} actors, {status.in_flight} runs in flight")
    elif status.state == "running":
        words.append("actors are starting")
    if status.utilisation is not None:
        words.append(f"{status.utilisation:.0%} busy")
    if status.driver and not status.finished:
        words.append(f"driver {status.driver}")
    return " · ".join(words)


def plain_line(status: StudyStatus) -> str:
    """The same in one line without colour, for logs and pipes."""
    arms = ", ".join(f"{arm} {status.done.get(arm, 0)}/{planned}" for arm, planned in status.planned.items())
    counts = ", ".join(text for text, _ in outcome_counts(status))
    total = f"{status.total_done}/{status.total_planned} runs"
    return f"{status.name}: {status.state}, {total} ({arms}); {counts}; {pace_line(status)}"


def event_line(event: Event) -> str:
    """One event in one line: the time of day (UTC), its kind and its message."""
    time_of_day = event.time[11:19] if len(event.time) >= 19 else event.time
    kind = event.kind.replace("_", " ")
    return f"{time_of_day}  {kind}: {event.message}" if event.message else f"{time_of_day}  {kind}"


Callbacks = tuple[Callable[["StudyStatus"], None], Callable[["Event"], None]]


@contextmanager
def live(console: Console, clock: Callable[[], float] = time.monotonic) -> Iterator[Callbacks]:
    """Show a study while it runs; yields (on_progress, on_event) for :func:`service.run_study`.

    On a terminal a picture is redrawn in place, with the latest events below it. Elsewhere there is one line at the
    start, one at most every ten seconds, one for each event worth telling, and one at every change of state.
    """
    with _live_picture(console) if console.is_terminal else _plain_lines(console, clock) as callbacks:
        yield callbacks


@contextmanager
def _live_picture(console: Console) -> Iterator[Callbacks]:
    told: list[Text] = []
    latest: list[StudyStatus] = []

    def draw() -> RenderableType:
        return Group(*(progress_view(status) for status in latest), *told)

    # Redrawn when something changes, by the driver's thread: rich's own refresh thread would only repeat the same.
    with Live(console=console, auto_refresh=False, transient=False) as picture:

        def on_progress(status: StudyStatus) -> None:
            latest[:] = [status]
            picture.update(draw(), refresh=True)

        def on_event(event: Event) -> None:
            if event.kind in TOLD_EVENTS:
                style = "yellow" if event.kind in WARNINGS else "dim"
                told.append(Text(event_line(event), style=style, overflow="ellipsis", no_wrap=True))
                del told[:-EVENTS_KEPT]
                picture.update(draw(), refresh=True)

        yield on_progress, on_event


@contextmanager
def _plain_lines(console: Console, clock: Callable[[], float]) -> Iterator[Callbacks]:
    last_time, last_state = float("-inf"), ""

    def on_progress(status: StudyStatus) -> None:
        nonlocal last_time, last_state
        if status.state != last_state or clock() - last_time >= PLAIN_EVERY_S:
            last_time, last_state = clock(), status.state
            _print_line(console, plain_line(status))

    def on_event(event: Event) -> None:
        if event.kind in TOLD_EVENTS:
            _print_line(console, event_line(event))

    yield on_progress, on_event


def _print_line(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
