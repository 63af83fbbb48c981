"""What became of each blow, by the study's own events; and the sums by kind.

*Noticed after* is the time from a blow to the event that tells of it: ``actor_lost``, ``node_lost``, ``storage_retry``,
or the start of the next driver. *Recovered after* counts from the blow, or from the end of what lasts for a while:

- actors and nodes: until the runs that were lost with them have been handed out again;
- drivers: until the next one hands out runs;
- storage: until the next commit is there;
- what was only stopped, and clocks: until the next run ends, there if it was an actor;
- commands: until ``t1t2 status`` has answered.
"""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from service.records.events import Event
from tests.soak.blows import BLOWS
from tests.soak.journal import Journal, Line

NOTICED_WITHIN_S = 120.0
FOLLOWS_WITHIN_S = 600.0
Times = tuple[float | None, float | None]


class Events:
    """The events of a study, by kind and in the order of time."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._by_kind: dict[str, list[tuple[float, dict[str, Any]]]] = {}
        for event in events:
            at = datetime.fromisoformat(event.time).timestamp()
            self._by_kind.setdefault(event.kind, []).append((at, event.fields))
        for found in self._by_kind.values():
            found.sort(key=lambda entry: entry[0])

    def after(self, kind: str, at: float, within_s: float, **fields: object) -> list[tuple[float, dict[str, Any]]]:
        """Those of a kind and with such fields, from a moment on."""
        found = self._by_kind.get(kind, [])
        begin = bisect.bisect_left(found, at, key=lambda entry: entry[0])
        end = bisect.bisect_right(found, at + within_s, key=lambda entry: entry[0])
        return [entry for entry in found[begin:end] if all(entry[1].get(key) == fields[key] for key in fields)]

    def first(self, kind: str, at: float, within_s: float = FOLLOWS_WITHIN_S, **fields: object) -> float | None:
        """When the first of them was."""
        return next((time for time, _ in self.after(kind, at, within_s, **fields)), None)

    def handed_out_again(self, lost_at: float) -> float | None:
        """When all runs that were lost at this moment had been handed out again; None if one never was."""
        latest = lost_at
        for at, fields in self.after("run_lost", lost_at, 0.05):
            same = {key: fields[key] for key in ("arm", "model", "slots")}
            again = self.first("runs_started", at, **same)
            if again is None:
                return None
            latest = max(latest, again)
        return latest


def measured(blow: Line, events: Events, commits: Sequence[float], journal: Journal) -> Times:
    """When a blow was noticed and when all was well again, in seconds since 1970; None where it was not."""
    kind, at = blow["kind"], blow["at"]
    end = at + blow.get("lasts_s", 0.0)
    match kind.split():
        case ["actor", "SIGKILL" | "hung"]:
            lost = events.first("actor_lost", at, NOTICED_WITHIN_S, pid=blow["pid"])
            return lost, lost and events.handed_out_again(lost)
        case ["node", "SIGKILL" | "SIGSTOP"]:
            return _of_node(blow, events, end)
        case ["driver", "SIGKILL" | "zombie"]:
            started = events.first("study_started", at)
            return started, started and events.first("runs_started", started)
        case ["actor", "SIGSTOP"]:
            ends = [events.first(kind, end, pid=blow["pid"]) for kind in ("runs_finished", "actor_lost")]
            return None, min((time for time in ends if time), default=None)
        case ["client", *_]:
            answers = [note for note in journal.notes("status_answered") if note["of"] == blow["number"]]
            return None, next((end + note["after_s"] for note in answers if note["code"] == 0), None)
        case ["storage", *_]:
            place = bisect.bisect_left(commits, end)
            noticed = events.first("storage_retry", at, end - at + 5.0)
            return noticed, commits[place] if place < len(commits) else None
        case _:
            return None, events.first("runs_finished", end)


def _of_node(blow: Line, events: Events, end: float) -> Times:
    noticed = events.first("node_lost", blow["at"], NOTICED_WITHIN_S, node_id=blow["node_id"])
    lost = [events.first("actor_lost", blow["at"], NOTICED_WITHIN_S, pid=pid) for pid in blow["pids"]]
    if noticed is None and blow["kind"] == "node SIGSTOP":
        return None, events.first("runs_finished", end)
    again = [events.handed_out_again(time) for time in lost if time]
    return noticed, None if None in again else max([time for time in again if time], default=noticed)


def tally(journals: Sequence[tuple[Journal, Events, Sequence[float]]]) -> dict[str, dict[str, Any]]:
    """By kind: how many were dealt, noticed and recovered from, and after how many seconds."""
    noticed: dict[str, list[float]] = {}
    recovered: dict[str, list[float]] = {}
    dealt: dict[str, int] = {}
    for journal, events, commits in journals:
        for blow in journal.blows():
            kind, at = blow["kind"], blow["at"]
            lasts_s = 0.0 if kind in ("node SIGSTOP", "actor hung") else blow.get("lasts_s", 0.0)
            seen, well = measured(blow, events, commits, journal)
            dealt[kind] = dealt.get(kind, 0) + 1
            if seen is not None:
                noticed.setdefault(kind, []).append(max(0.0, seen - at))
            if well is not None:
                recovered.setdefault(kind, []).append(max(0.0, well - at - lasts_s))
    return {
        blow.kind: {
            "dealt": dealt[blow.kind],
            "noticed": _seconds(noticed.get(blow.kind, [])),
            "recovered": _seconds(recovered.get(blow.kind, [])),
            "set_by": blow.limit,
        }
        for blow in BLOWS
        if blow.kind in dealt
    }


def _seconds(values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {"count": 0}
    return {"count": len(values), "median_s": round(statistics.median(values), 3), "longest_s": round(max(values), 3)}


def text(kinds: dict[str, dict[str, Any]]) -> str:
    """The tally as a table."""
    times = f"{'median':>8} {'longest':>8}"
    lines = [f"{'':24}{'dealt':>6}  {'noticed':>7} {times}  {'recovered':>9} {times}"]
    for kind, row in kinds.items():
        cells = [f"{kind:24}{row['dealt']:6}  "]
        for name, width in (("noticed", 7), ("recovered", 9)):
            found = row[name]
            times = "".join(
                f" {found[key]:7.1f}s" if key in found else f" {'–':>8}" for key in ("median_s", "longest_s")
            )
            cells.append(f"{found['count']:{width}}{times}  ")
        lines.append("".join(cells).rstrip())
    return "\n".join(lines)
