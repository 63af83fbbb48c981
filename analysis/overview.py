"""What a study is at a glance, and its best runs: asked of its tables, so that a million runs need little memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis import frames
from analysis.files import StudyError

Ask = Callable[[str], pd.DataFrame]  # Study.sql: a query on the views runs, trajectories and attempts
METRICS = ("t2_loss", "t2_error")  # a choice is made on T2; the test set chooses nothing
MOST_PANELS = 4  # models that are drawn
MOST_DRAWN = 100  # runs drawn of each
_RESULTS = ("t1_loss", "t2_loss", "t2_error", "test_loss", "test_error")


@dataclass(frozen=True, kw_only=True)
class Overview:
    """A study at a glance. Where layers have hyperparameters of their own, ``boxes`` and ``drawn`` have their mean."""

    arms: list[str]  # in the spec's order, others after them
    counts: pd.DataFrame  # model, arm, status, runs: how many runs there are of each
    boxes: frames.Boxes
    best: pd.DataFrame  # the one row of best_runs; none where no run has completed
    drawn: pd.DataFrame  # model, {name}_initial and {name}_final of a sample of the completed online runs

    @property
    def models(self) -> list[str]:
        """The models in alphabetical order, numbers in theirs: ``mlp-64`` is before ``mlp-128``."""
        return sorted(self.counts["model"].unique(), key=_natural)

    @property
    def by_status(self) -> dict[str, int]:
        """Status -> number of runs, the most frequent first."""
        found = self.counts.groupby("status")["runs"].sum().sort_values(ascending=False, kind="stable")
        return {str(status): int(number) for status, number in found.items()}


def overview(ask: Ask, spec: Mapping[str, Any]) -> Overview:
    """The study that ``ask`` answers for, with its ``spec`` (empty where that is not known)."""
    columns = list(ask("SELECT * FROM runs LIMIT 0").columns)
    counts = ask("SELECT model, arm, status, count(*) AS runs FROM runs GROUP BY ALL ORDER BY ALL")
    tied = _tied(columns)
    best = ask(_best_query(columns, METRICS[0], 1)) if METRICS[0] in columns else pd.DataFrame()
    present = sorted(counts["arm"].unique())
    planned = [arm for arm in spec.get("arms") or () if arm in present]
    return Overview(
        arms=list(dict.fromkeys([*planned, *present])),
        counts=counts,
        boxes=_boxes(ask, tied, spec),
        best=_tidy(best),
        drawn=_drawn(ask, tied, counts),
    )


def best_runs(ask: Ask, *, metric: str, n: int, arm: str | None, model: str | None, where: str) -> pd.DataFrame:
    """What :meth:`analysis.Study.best` returns; ``where`` is the study's name in messages."""
    columns = list(ask("SELECT * FROM runs LIMIT 0").columns)
    allowed = [name for name in METRICS if name in columns]
    if metric not in allowed:
        raise StudyError(
            f"{where}: metric = {metric!r}: {' or '.join(allowed) or 'a column t2_loss or t2_error'} is expected; runs "
            "are chosen by their T2 measures, and the test set only says how good the chosen one is"
        )
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise StudyError(f"{where}: n = {n!r}: a whole number from 1 is expected")
    conditions = {"arm": arm, "model": model}
    for column, asked in conditions.items():
        known = [] if asked is None else list(ask(f"SELECT DISTINCT {column} FROM runs ORDER BY 1")[column])
        if asked is not None and asked not in known:
            raise StudyError(f"{where}: {column} = {asked!r}: the study has {', '.join(map(repr, known)) or 'none'}")
    found = ask(_best_query(columns, metric, n, {name: value for name, value in conditions.items() if value}))
    if found.empty:
        chosen = "".join(f" with {name} {value!r}" for name, value in conditions.items() if value)
        raise StudyError(f"{where}: no completed run{chosen}, so none is the best")
    return _tidy(found)


def _best_query(columns: Sequence[str], metric: str, n: int, conditions: Mapping[str, str] | None = None) -> str:
    """The best runs, the hyperparameters at their end under their own names; among equals the lowest run_id."""
    names = frames.hyperparameters(pd.DataFrame(columns=list(columns)))
    ends = [f"{_quoted(f'{name}_final')} AS {_quoted(name)}" for name in names]
    results = [name for name in _RESULTS if name in columns]
    chosen = ["status = 'completed'", f"isfinite({metric})"]
    chosen += [f"{name} = {_text(value)}" for name, value in (conditions or {}).items()]
    identity = ["model", "arm", "config_index", "replicate"]
    return (
        f"SELECT {', '.join([*identity, *ends, *results, 'run_id'])} FROM runs WHERE {' AND '.join(chosen)} "
        f"ORDER BY {metric}, run_id LIMIT {n}"
    )


def _tidy(best: pd.DataFrame) -> pd.DataFrame:
    """Without the hyperparameters that none of these models has."""
    return best.dropna(axis="columns", how="all") if len(best) else best


def _tied(columns: Sequence[str]) -> dict[str, list[str]]:
    """Hyperparameter -> SQL for its value at the start and at the end: the mean over its layers; NULL where absent."""
    layers = frames.layers(frames.hyperparameters(pd.DataFrame(columns=list(columns))))
    return {
        name: [f"list_avg([{', '.join(_number(f'{part}_{end}') for part in parts)}])" for end in ("initial", "final")]
        for name, parts in layers.items()
    }


def _boxes(ask: Ask, tied: Mapping[str, Sequence[str]], spec: Mapping[str, Any]) -> frames.Boxes:
    """As :func:`analysis.boxes` finds them, from the extents alone."""
    if not tied:
        return {}
    names = {name: _quoted(f"{name}_initial") for name in tied}
    rows = [
        f"SELECT {', '.join(f'{end}({start}) AS {names[name]}' for name, (start, _) in tied.items())} "
        "FROM runs WHERE arm <> 'rerun'"
        for end in ("min", "max")
    ]
    extents = ask(" UNION ALL ".join(rows))
    ends = {f"{name}_final": extents[f"{name}_initial"] for name in tied}
    return frames.boxes(extents.assign(arm="grid", **ends), spec)


def _drawn(ask: Ask, tied: Mapping[str, Sequence[str]], counts: pd.DataFrame) -> pd.DataFrame:
    """A sample that is the same whatever the order of the rows, and fair whatever the ids are like."""
    ends = [
        f"{value} AS {_quoted(f'{name}_{end}')}"
        for name, values in tied.items()
        for value, end in zip(values, ("initial", "final"), strict=True)
    ]
    online = counts[(counts["arm"] == "online") & (counts["status"] == "completed")]
    parts = [
        ask(
            f"SELECT {', '.join(['model', *ends])} FROM runs WHERE arm = 'online' AND status = 'completed' "
            f"AND model = {_text(model)} ORDER BY md5(run_id) LIMIT {MOST_DRAWN}"
        )
        for model in sorted(online["model"].unique(), key=_natural)[:MOST_PANELS]
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["model"])


def _quoted(column: str) -> str:
    """A column's name as SQL has it."""
    return '"' + column.replace('"', '""') + '"'


def _number(column: str) -> str:
    """A column of floats in SQL, NULL where it is NaN: sums and extents then leave it out."""
    return f"nullif({_quoted(column)}, 'nan'::DOUBLE)"


def _text(value: str) -> str:
    """A string as SQL has it."""
    return "'" + value.replace("'", "''") + "'"


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name)]
