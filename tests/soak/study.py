"""What a soak trains, and how its tables are held against a calm run's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from service import StudySpec
from tests.service.studies import VARYING, run_serially, table


def soak_spec(seed: int, configurations: int) -> StudySpec:
    """Short real trainings on the digits in all four arms, with checkpoints; a run may be lost any number of times."""
    return StudySpec.from_dict(
        {
            "name": "soak",
            "seed": seed,
            "configurations": configurations,
            "arms": ["initial", "online", "rerun", "grid"],
            "models": [{"hidden": [16]}],
            "inner": {"steps": 200},
            "outer": {"every": 5},
            "record_every": 25,
            "grid": {"points": {"log10_l2": 2, "input_noise_std": 2}, "replicates": 4},
            "execution": {
                "checkpoint_every": 50,
                "loss_retries": 100_000,
                "failure_retries": 100,
                "hung_after_s": 8.0,
                "resource_timeout_s": 60.0,
            },
            "trainer": "tests.soak.paced:train",
        }
    )


def compare(spec: StudySpec, soaked: Path, calm: Path) -> dict[str, int]:
    """Runs lost, double and changed against a calm run of the same spec, which is trained into ``calm`` if need be.

    A run is changed if one value of its row or of its trajectory is not the same to the last bit; times and the number
    of attempts aside. Rows in another order than the calm table's are counted, too.
    """
    run_serially(spec, calm)
    runs, expected = table(soaked), table(calm)
    changed, moved = set(), 0
    for name, keys in (("runs", ["run_id"]), ("trajectories", ["run_id", "step"])):
        a, b = (table(out, name).drop(columns=VARYING, errors="ignore") for out in (soaked, calm))
        changed |= _different(a, b, keys)
        moved += 0 if len(a) != len(b) else int((a[keys] != b[keys]).any(axis=1).sum())
    return {
        "runs": len(expected),
        "attempts": len(table(soaked, "attempts")),
        "runs_lost": len(set(expected["run_id"]) - set(runs["run_id"])),
        "runs_double": int(runs["run_id"].duplicated().sum()),
        "runs_changed": len(changed & set(runs["run_id"]) & set(expected["run_id"])),
        "runs_of_no_plan": len(set(runs["run_id"]) - set(expected["run_id"])),
        "rows_moved": moved,
        "runs_with_wrong_attempts": wrong_attempts(runs, table(soaked, "attempts")),
    }


def wrong_attempts(runs: pd.DataFrame, attempts: pd.DataFrame) -> int:
    """How many runs have attempts that are numbered with a gap, or of which another than the last gave a result."""
    wrong = 0
    last = dict(zip(runs["run_id"], runs["attempt"], strict=True))
    for run_id, found in attempts.sort_values("attempt").groupby("run_id"):
        numbers, outcomes = list(found["attempt"]), list(found["outcome"])
        gave = [outcome not in ("lost", "failed") for outcome in outcomes]
        wrong += numbers != [*range(1, len(found) + 1)] or gave != [False] * (len(found) - 1) + [True]
        wrong += last.get(run_id) != numbers[-1]
    return wrong


def _different(found: pd.DataFrame, expected: pd.DataFrame, keys: list[str]) -> set[str]:
    """The ids of runs whose rows are not the same in both tables: other values, rows more or fewer."""
    doubled = {run_id for frame in (found, expected) for run_id in frame.loc[frame.duplicated(keys), "run_id"]}
    a, b = (frame.drop_duplicates(keys) for frame in (found, expected))
    both = a.merge(b, on=keys, how="outer", suffixes=("", "__calm"), indicator=True)
    differs = both["_merge"] != "both"
    for column in [column for column in a if column not in keys]:
        left, right = both[column], both[f"{column}__calm"]
        differs |= ~((left == right) | (left.isna() & right.isna()))
    return doubled | set(both.loc[differs, "run_id"])
