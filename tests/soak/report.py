"""The two phases of a soak, on the S3 server and on a small disk, and the report on both."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from service import StudySpec, read_events
from service.records.manifest import read_spec
from tests.benchmarks.measure import machine
from tests.soak.blows import BLOWS, Blow
from tests.soak.drivers import WORKS_ON
from tests.soak.journal import Journal, Line
from tests.soak.places import DiskPlace, Place, S3Place
from tests.soak.soak import soaking
from tests.soak.study import compare, soak_spec
from tests.soak.tally import Events, tally, text

ON_DISK = 0.15  # of the blows
SHOW_EVERY = 20
BAD = ("runs_lost", "runs_double", "runs_changed", "runs_of_no_plan", "rows_moved", "runs_with_wrong_attempts")


@dataclass(frozen=True)
class Phase:
    """One study that was soaked, where it is now, and what was found."""

    name: str
    journal: Journal
    place: Place | None  # None where this phase cannot be had
    out: Path
    spec: StudySpec
    runs: dict[str, int]
    missing: str = ""


def soak(directory: Path, kills: int, seed: int, kinds: Sequence[Blow] = BLOWS) -> list[Phase]:
    """Both phases; where no tmpfs can be mounted all blows fall on the first."""
    on_s3 = S3Place(directory / "s3")
    disk = DiskPlace(directory / "disk")
    try:
        disk.start()
        disk.stop()
    except OSError as error:
        return [_phase(directory / "s3", on_s3, kills, seed, kinds), _missing(directory / "disk", str(error))]
    on_disk = round(kills * ON_DISK)
    phases = [_phase(directory / "s3", on_s3, kills - on_disk, seed, kinds)]
    return [*phases, _phase(directory / "disk", disk, on_disk, seed, kinds)] if on_disk else phases


def _phase(directory: Path, place: Place, kills: int, seed: int, kinds: Sequence[Blow]) -> Phase:
    """Deal the blows that are left, wait for the study's end, and hold it against a calm run."""
    directory.mkdir(parents=True, exist_ok=True)
    journal = Journal(directory / "journal.jsonl")
    out = directory / "study"
    known = [note["configurations"] for name in ("begun", "extended") for note in journal.notes(name)]
    spec = soak_spec(seed, max([8 + kills // 3, *known]))
    completed = journal.notes("completed")
    if not completed or len(journal.blows()) < kills:
        journal.note("begun", configurations=spec.configurations)
        with soaking(place, directory, spec, journal, kinds) as alive:
            for number in range(len(journal.blows()), kills):
                alive.deal(number, f"{seed}:{directory.name}")
                if (number + 1) % SHOW_EVERY == 0:
                    print(f"{time.strftime('%H:%M:%S')}  {directory.name}: {number + 1} of {kills} blows", flush=True)
            alive.finish()
            shutil.rmtree(out, ignore_errors=True)
            place.fetch(out)
        journal.note("ended")
    spec = read_spec(str(out))  # commands have extended it
    return Phase(directory.name, journal, place, out, spec, compare(spec, out, directory / "calm"))


def _missing(directory: Path, why: str) -> Phase:
    return Phase(directory.name, Journal(directory / "none"), None, directory, soak_spec(0, 1), {}, why)


def report(phases: Sequence[Phase], seed: int) -> dict[str, Any]:
    """Everything as JSON; prints the tally."""
    had = [phase for phase in phases if phase.place is not None]
    kinds = tally(
        [(phase.journal, Events(read_events(str(phase.out))), phase.place.commits()) for phase in had if phase.place]
    )
    print(f"\nsoak, seed {seed}: {sum(row['dealt'] for row in kinds.values())} blows\n{text(kinds)}")
    studies = {phase.name: _of_phase(phase) for phase in had}
    for name, found in studies.items():
        print(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found["runs"].items()))
    skipped = {phase.name: phase.missing for phase in phases if phase.place is None}
    for name, why in skipped.items():
        print(f"left out: {name}: {why}")
    return {
        "machine": machine() | {name: version(name) for name in ("ray", "pyarrow", "moto")},
        "seed": seed,
        "blows": sum(row["dealt"] for row in kinds.values()),
        "sound": not any(phase.runs[key] for phase in had for key in BAD)
        and not any(
            zombie["code"] == WORKS_ON and zombie["had_driven"]
            for study in studies.values()
            for zombie in study["zombies"]
        ),
        "kinds": kinds,
        "kinds_not_dealt": sorted({blow.kind for blow in BLOWS} - set(kinds)),
        "left_out": skipped,
        "studies": studies,
    }


def _of_phase(phase: Phase) -> dict[str, Any]:
    journal = phase.journal
    begun, ended = [[note["at"] for note in journal.notes(name)] for name in ("begun", "ended")]
    exits = Counter(note["tail"].strip().rpartition("\n")[2][:160] for note in journal.notes("driver_ended"))
    met: Counter[str] = Counter()
    for note in journal.notes("faults_met"):
        met.update({key: value for key, value in note.items() if key not in ("note", "at")})
    return {
        "runs": phase.runs,
        "spec": phase.spec.to_dict(),
        "seconds": round(ended[-1] - begun[0], 1),
        "times_begun": len(begun),
        "drivers": len(journal.notes("driver_started")),
        "drivers_that_ended_by_themselves": dict(exits.most_common()),
        "zombies": [
            {"code": note["code"], "after_s": note["after_s"], "had_driven": _had_driven(phase, note)}
            for note in journal.notes("zombie_ended")
        ],
        "requests_that_met_a_fault": dict(met),
        "tracebacks_of_commands": len(journal.notes("traceback")),
    }


def _had_driven(phase: Phase, zombie: Line) -> bool:
    """Whether a zombie had committed runs before it was stopped.

    One that was stopped while it was still loading has had no study to lose. It may take it, like any other driver,
    when it goes on and finds that nobody holds it.
    """
    started = [note["at"] for note in phase.journal.notes("driver_started") if note["pid"] == zombie["pid"]]
    stopped = next(blow["at"] for blow in phase.journal.blows() if blow["number"] == zombie["of"])
    commits = phase.place.commits() if phase.place is not None else []
    return any(started[-1] < at < stopped for at in commits)
