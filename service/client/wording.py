"""A study's status and its events in words, the same on a terminal, in a log and on a web page."""

from __future__ import annotations

from service.records.events import Event
from service.records.progress import StudyStatus

WARNINGS = frozenset(
    {
        "node_lost",
        "actor_lost",
        "run_diverged",
        "run_failed",
        "run_lost",
        "shard_corrupt",
        "storage_retry",
        "events_damaged",
        "request_ignored",
        "study_json_rebuilt",
    }
)
# What a person wants to see among the events; all of them are in the study's events/ files.
TOLD_EVENTS = WARNINGS | {
    "study_started",
    "resumed",
    "node_added",
    "node_draining",
    "retry",
    "paused",
    "unpaused",
    "extended",
    "configurations_kept",
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
    """Runs a second, or a minute where it is slow; an en dash where unknown."""
    if runs_per_s is None:
        return "–"
    return f"{runs_per_s:.1f} runs/s" if runs_per_s >= 1 else f"{60 * runs_per_s:.1f} runs/min"


def time_left(status: StudyStatus) -> str:
    """How long the study still takes: nothing where it is finished, an en dash where unknown."""
    return "" if status.finished else duration(status.seconds_left)


def outcome_counts(status: StudyStatus) -> dict[str, int]:
    """How many runs are completed, diverged and failed; where there are any, attempts lost and runs not committed.

    A driver that was killed may have committed some of the latter after it last reported.
    """
    counts = {"completed": status.completed, "diverged": status.diverged, "failed": status.failed}
    if status.lost:
        counts["attempts lost"] = status.lost
    if status.uncommitted:
        words = {"interrupted": "of them perhaps not committed", "failed": "of them not committed"}
        counts[words.get(status.state, "of them not yet committed")] = status.uncommitted
    return counts


def pace_line(status: StudyStatus) -> str:
    """Rate, time left, time used, and how busy the actors are, as far as they are known."""
    words = [rate(status.runs_per_s)] if status.runs_per_s is not None else []
    if not status.finished and status.seconds_left is not None:
        words.append(f"{duration(status.seconds_left)} left")
    used = duration(status.elapsed_s)
    if status.updated_at or not status.error:  # else no driver has told how long, or what it told is damaged
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


def status_line(status: StudyStatus) -> str:
    """The whole status in one line, for logs and pipes."""
    arms = ", ".join(f"{arm} {status.done.get(arm, 0)}/{planned}" for arm, planned in status.planned.items())
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in outcome_counts(status).items())
    total = f"{status.total_done}/{status.total_planned} runs"
    parts = [f"{status.name}: {status.state}, {total} ({arms})", counts, pace_line(status), status.error]
    return "; ".join(part for part in parts if part)


def event_line(event: Event) -> str:
    """One event in one line: the time of day (UTC), its kind and its message."""
    time_of_day = event.time[11:19] if len(event.time) >= 19 else event.time
    kind = event.kind.replace("_", " ")
    return f"{time_of_day}  {kind}: {event.message}" if event.message else f"{time_of_day}  {kind}"
