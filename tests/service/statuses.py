"""A status for tests of what is said about studies."""

from __future__ import annotations

from service.records.progress import StudyStatus

RUNNING = StudyStatus(
    name="demo",
    study_hash="0" * 64,
    uri="studies/demo",
    state="running",
    planned={"initial": 48, "online": 48, "rerun": 48, "grid": 1500},
    done={"initial": 48, "online": 12, "rerun": 0, "grid": 0},
    completed=58,
    diverged=1,
    failed=1,
    lost=2,
    in_flight=2,
    actors=2,
    elapsed_s=75.0,
    runs_per_s=0.8,
    seconds_left=3750.0,
    utilisation=0.97,
    driver="host:123",
)
