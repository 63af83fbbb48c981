"""Tidy views of the runs table that the estimators share: hyperparameters, their box, and the arms side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Boxes = dict[str, tuple[float, float]]  # hyperparameter -> (low, high)
IDENTITY = ["model", "config_index", "replicate"]  # together with the arm, what names a run
RESULTS = ["status", "t1_loss", "t2_loss", "t2_error", "test_loss", "test_error", "train_time_s"]
ROUNDING = 1e-6  # of a box's side: a value that was clamped to a bound differs from it by the rounding of float32
_PART = re.compile(r"(log10_l2)_.+|(.+)_layer\d+")  # one value for each group of parameters, or for each layer


@dataclass(frozen=True)
class NotComputable:
    """A statistic that this study does not allow, and why; it stands where the statistic would."""

    reason: str


def hyperparameters(runs: pd.DataFrame) -> list[str]:
    """The hyperparameters' column stems in order: those with both ``{name}_initial`` and ``{name}_final``."""
    return [
        c.removesuffix("_initial")
        for c in runs.columns
        if c.endswith("_initial") and c.removesuffix("_initial") + "_final" in runs.columns
    ]


def layers(columns: Sequence[str]) -> dict[str, list[str]]:
    """Hyperparameter -> its columns: itself where it is tied, else those of its layers or groups of parameters."""
    found: dict[str, list[str]] = {}
    for column in columns:
        match = _PART.fullmatch(column)
        found.setdefault((match.group(1) or match.group(2)) if match else column, []).append(column)
    return found


def tie_layers(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with one value of every hyperparameter: the mean over the layers or groups of parameters that have one.

    The fixed-hyperparameter grid holds one value for the whole network, so a region of the box can be judged only for
    the tied value. A frame without such hyperparameters comes back as it is.
    """
    tied = runs
    for name, members in layers(hyperparameters(runs)).items():
        for end in ("initial", "final") if members != [name] else ():
            parts = [f"{member}_{end}" for member in members]
            place = list(tied.columns).index(parts[0])  # the mean takes the place of its first part
            tied = tied.drop(columns=parts)
            tied.insert(place, f"{name}_{end}", runs[parts].mean(axis=1))
    return tied


def boxes(runs: pd.DataFrame, spec: Mapping[str, Any] | None = None) -> Boxes:
    """The search box of each (tied) hyperparameter: from the spec, else the extent of the grid and of the starts.

    A hyperparameter that cannot vary has no box.
    """
    tied = tie_layers(runs)
    tables = tables_of_hyperparameters(spec or {})
    found: Boxes = {}
    for name in hyperparameters(tied):
        entry = tables.get(name, {})
        if "low" in entry and "high" in entry:
            low, high = float(entry["low"]), float(entry["high"])
        else:
            values = tied.loc[tied["arm"] != "rerun", f"{name}_initial"]
            low, high = float(values.min()), float(values.max())
        if low < high:  # neither constant nor, with NaN, absent
            found[name] = (low, high)
    return found


def tables_of_hyperparameters(spec: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Hyperparameter -> what the spec says of it: its box, and where it starts. Own ones are included."""
    settings = dict(spec.get("hyperparameters") or {})
    settings |= {key.partition(":")[2]: box for key, box in (settings.get("custom") or {}).items()}
    return {name: table for name, table in settings.items() if isinstance(table, Mapping)}


def has_values(runs: pd.DataFrame, name: str) -> bool:
    """Whether any of ``runs`` has the hyperparameter: the column of a model that has not is empty."""
    return bool(runs[f"{name}_initial"].notna().any())


def scaled(points: Floats, box: Floats) -> Floats:
    """``points`` [N, D] in box units: the box [D, 2] becomes [0, 1] in every direction."""
    return np.asarray((points - box[:, 0]) / (box[:, 1] - box[:, 0]))


def positions(runs: pd.DataFrame, names: Sequence[str], end: str) -> Floats:
    """The hyperparameters ``names`` of every run [N, D] at ``end`` = ``initial`` or ``final``, in their own units."""
    return runs[[f"{h}_{end}" for h in names]].to_numpy(dtype=float)


def one_arm(runs: pd.DataFrame, model: str, arm: str, *, completed: bool = False) -> pd.DataFrame:
    """The runs of one model in one arm, layers or groups tied, ordered by configuration, failed ones left out.

    ``completed`` leaves the diverged ones out too. The order matters to every bootstrap: the same runs in another order
    in the file must give the same intervals.
    """
    status = runs["status"] == "completed" if completed else runs["status"] != "failed"
    chosen = runs[(runs["arm"] == arm) & (runs["model"] == model) & status]
    return tie_layers(chosen.sort_values(["config_index", "replicate"], kind="stable", ignore_index=True))


def pairs(runs: pd.DataFrame, first: str, second: str, model: str | None = None) -> pd.DataFrame:
    """One row for each configuration that has both arms; the result columns with the arm as suffix.

    Columns: model, config_index, replicate, and ``{column}_{arm}`` for status, losses, errors and train_time_s. Failed
    runs, which have no result, are left out; diverged ones stay, with NaN losses.
    """
    return side_by_side(runs, (first, second), model)


def side_by_side(runs: pd.DataFrame, arms: Sequence[str], model: str | None = None) -> pd.DataFrame:
    """:func:`pairs` for any number of ``arms``: the configurations that have a result in every one of them."""
    chosen = runs[(runs["status"] != "failed") & ((runs["model"] == model) | (model is None))]
    columns = IDENTITY + [c for c in RESULTS if c in runs.columns]
    sides = [chosen.loc[chosen["arm"] == arm, columns].set_index(IDENTITY).add_suffix(f"_{arm}") for arm in arms]
    return pd.concat(sides, axis=1, join="inner").sort_index().reset_index()


def thinned(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most ``most`` rows, evenly spaced in the frame's order: fair, as configurations are random draws already."""
    if len(frame) <= most:
        return frame
    return frame.iloc[np.linspace(0, len(frame) - 1, most).round().astype(int)]


def missing_arms(runs: pd.DataFrame, *arms: str, model: str | None = None) -> NotComputable | None:
    """Why a comparison of ``arms`` is not possible, or None where every arm has a run with a result."""
    chosen = runs[(runs["status"] == "completed") & ((runs["model"] == model) | (model is None))]
    absent = [arm for arm in arms if not (chosen["arm"] == arm).any()]
    if not absent:
        return None
    where = f" of model {model}" if model else ""
    return NotComputable(f"no completed run{where} in the arm{'s' * (len(absent) > 1)} {' and '.join(absent)}")
