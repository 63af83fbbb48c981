"""How studies look on a terminal: the progress of one, live or in the lines of a log, and the table of many.

Everything is drawn from one :class:`service.StudyStatus`, so a driver's own display (``run``) and a display on another
machine (``watch``, which reads the storage alone) are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service.cli.console import plain, plain_lines
from service.cli.tables import print_table
from service.client.wording import (
    TOLD_EVENTS,
    WARNINGS,
    event_line,
    outcome_counts,
    pace_line,
    rate,
    status_line,
    time_left,
)

if TYPE_CHECKING:
    from service.records.events import Event
    from service.records.progress import StudyStatus

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
OUTCOME_STYLES = {"completed": "green", "diverged": "yellow", "failed": "bold red", "attempts lost": "magenta"}


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
    counts = Text("  ").join(
        Text(f"{count:,} {outcome}", style=OUTCOME_STYLES.get(outcome, "") if count else "")
        for outcome, count in outcome_counts(status).items()
    )
    pace = Text(pace_line(status), style="dim")
    parts: list[RenderableType] = [head, bars, counts, pace]
    if status.error:
        parts.append(Text(plain_lines(status.error), style="bold red"))
    return Group(*parts)


def print_studies(screen: Console, found: Sequence[StudyStatus]) -> None:
    """The studies of a storage root, one a row."""
    headings = ["study", "state", "done", "planned", "diverged", "failed", "rate", "left", "updated (UTC)"]
    rows = []
    for status in found:
        counts = (status.total_done, status.total_planned, status.diverged, status.failed)
        updated = (status.updated_at or "")[:19].replace("T", " ")
        pace = (rate(status.runs_per_s), time_left(status))
        rows.append([status.name, status.state, *(f"{count:,}" for count in counts), *pace, updated])
    styles = {(row, 1): STATE_STYLES.get(status.state, "") for row, status in enumerate(found)}
    print_table(screen, headings, rows, numbers=range(2, len(headings)), keys=1, styles=styles)


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
                told.append(Text(plain(event_line(event)), style=style, overflow="ellipsis", no_wrap=True))
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
            _print_line(console, status_line(status))

    def on_event(event: Event) -> None:
        if event.kind in TOLD_EVENTS:
            _print_line(console, event_line(event))

    yield on_progress, on_event


def _print_line(console: Console, line: str) -> None:
    console.print(plain(line), markup=False, highlight=False, soft_wrap=True)
