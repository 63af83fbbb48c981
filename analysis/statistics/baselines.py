"""Rivals at equal compute: what the choice of a search is worth, over the compute that the search has spent.

The searches are those of `t1t2 baselines`, each repeated many times. Compute is counted in *trainings*: a training
with fixed hyperparameters and its one evaluation of T2. By a budget, a search chooses among its completed runs that had
ended within it, by their T2 loss; another metric of the chosen run is only reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.frames import Floats, NotComputable
from analysis.statistics.intervals import Estimate, bootstrap, unknown
from analysis.statistics.records import Row, bounded, framed
from analysis.study import Study

COLUMNS = ("compute", "spent", "spent_s")  # of runs, which no other study has
BUDGETS = (1, 2, 4, 8, 16)  # trainings
POPULATIONS, ONLINE, BOTH = "PBT", "online", "online + rerun"
# Arm -> method. Populations of every size are one method; an arm that is not named here is a method of its name.
METHODS = {
    "random": "random search",
    "asha": "ASHA",
    "hyperband": "Hyperband",
    "tpe": "TPE",
    "tpe-asha": "TPE + ASHA",
    "pbt": POPULATIONS,
    "online": ONLINE,
    "rerun": BOTH,
    "t1t2": "t1t2",
    "t1t2-rerun": "t1t2 + rerun",
}
Verdict = Literal["ahead", "behind", "no difference"]
_POPULATION = re.compile(r"pbt-(\d+)")
_STEPS = 4  # of the curve's budgets to a doubling
_ROUNDING = 1e-9  # relative: sums of the same costs in another order are one budget


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a method has chosen by each budget. Frames [repetition, budget in trainings], NaN before the first choice.

    ``seconds`` are those of training that the search had spent when the last run within the budget ended.
    """

    values: pd.DataFrame
    seconds: pd.DataFrame

    def known(self, budget: float) -> pd.Series[float] | None:
        """The values of all repetitions at ``budget``; None where one of them has no choice yet."""
        values = self.values[budget]
        return None if values.empty or values.isna().any() else values


def training_cost(baselines: Study, model: str) -> float | NotComputable:
    """Inner-step equivalents of one training with fixed hyperparameters and its evaluation, from ``study.json``."""
    costs = (baselines.info.get("baselines") or {}).get("costs") or {}
    steps = (baselines.spec.get("inner") or {}).get("steps")
    if model not in costs or "evaluation" not in costs[model] or steps is None:
        return NotComputable(f"study.json of the baselines has no measured costs of model {model}")
    return float(steps) + float(costs[model]["evaluation"])


def choices(
    runs: pd.DataFrame, model: str, *, training: float, budgets: Sequence[float], metric: str = "test_loss"
) -> dict[str, Choices]:
    """Method -> its choices at each of ``budgets`` (trainings, each of ``training`` inner-step equivalents).

    A population chooses when its last member has ended. By a budget, PBT is the largest population that every
    repetition has finished within it.
    """
    budgets = sorted({float(budget) for budget in budgets})
    asked = np.array(budgets) * training
    by_arm: dict[str, Choices] = {}
    for arm, of_arm in runs[runs["model"] == model].groupby("arm", sort=True):
        found = {r: _search(part, str(arm), asked, metric) for r, part in of_arm.groupby("replicate", sort=True)}
        values, seconds = (pd.DataFrame({r: pair[k] for r, pair in found.items()}, index=budgets).T for k in range(2))
        by_arm[str(arm)] = Choices(values=values, seconds=seconds)
    return _by_method(by_arm)


def _search(search: pd.DataFrame, arm: str, budgets: Floats, metric: str) -> tuple[Floats, Floats]:
    """The chosen run's ``metric`` and the seconds spent by each of ``budgets`` (inner-step equivalents), [B] each."""
    ended = search.sort_values(["spent", "config_index"], kind="stable")
    if _POPULATION.fullmatch(arm):
        ended = ended.assign(spent=ended["spent"].max(), spent_s=ended["spent_s"].max())
    candidates = ended[(ended["status"] == "completed") & np.isfinite(ended["t2_loss"])]
    seconds = np.maximum.accumulate(ended["spent_s"].to_numpy(dtype=float))
    report = candidates[metric].to_numpy(dtype=float)[_best_so_far(candidates["t2_loss"].to_numpy(dtype=float))]
    return _latest(candidates["spent"], report, budgets), _latest(ended["spent"], seconds, budgets)


def _best_so_far(losses: Floats) -> np.ndarray[Any, np.dtype[np.intp]]:
    """For each place the place of the lowest loss up to it, the first of equals."""
    lowest = np.minimum.accumulate(losses)
    is_better = np.concatenate([[True], losses[1:] < lowest[:-1]])[: len(losses)]
    return np.maximum.accumulate(np.where(is_better, np.arange(len(losses)), 0))


def _latest(times: pd.Series[float], values: Floats, budgets: Floats) -> Floats:
    """The value at the last of the sorted ``times`` within each budget; NaN before the first."""
    ended = np.searchsorted(times.to_numpy(dtype=float), budgets * (1 + _ROUNDING), side="right")
    return np.concatenate([[np.nan], values])[ended]


def _by_method(by_arm: Mapping[str, Choices]) -> dict[str, Choices]:
    """One entry a method, in the order of :data:`METHODS`, then by name."""
    found = {METHODS.get(arm, arm): parts for arm, parts in by_arm.items() if not _POPULATION.fullmatch(arm)}
    sizes = sorted((int(m.group(1)), arm) for arm in by_arm if (m := _POPULATION.fullmatch(arm)))
    if sizes:
        populations = [by_arm[arm] for _, arm in sizes]
        taken = {
            budget: next((p for p in reversed(populations) if p.known(budget) is not None), populations[0])
            for budget in map(float, populations[0].values.columns)
        }
        found[POPULATIONS] = Choices(
            values=pd.DataFrame({budget: p.values[budget] for budget, p in taken.items()}),
            seconds=pd.DataFrame({budget: p.seconds[budget] for budget, p in taken.items()}),
        )
    order = list(METHODS.values())
    return dict(sorted(found.items(), key=lambda part: (order.index(part[0]) if part[0] in order else 99, part[0])))


def baseline_curve(
    runs: pd.DataFrame, model: str, *, training: float, metric: str = "test_loss", seed: int = 0
) -> pd.DataFrame | NotComputable:
    """The expected ``metric`` of each method's choice over its budget, with bootstrap intervals over repetitions.

    Columns: method, trainings, expected with low and high, n (repetitions). A method begins with the budget at which
    all of its repetitions have a choice, and ends with what they have spent; PBT has a row for each size.
    """
    lacking = _lacking(runs, model)
    if lacking:
        return lacking
    budgets = _curve_budgets(runs[runs["model"] == model], training)
    every = sorted({budget for own in budgets.values() for budget in own})
    found = choices(runs, model, training=training, budgets=every, metric=metric)
    rows: list[dict[str, Any]] = []
    for method, chosen in found.items():
        for budget in budgets[method]:
            values = chosen.known(budget)
            if values is not None:
                expected = _mean(values, seed)
                rows.append(
                    {"method": method, "trainings": budget} | bounded("expected", expected, "") | {"n": len(values)}
                )
    return pd.DataFrame(rows) if rows else NotComputable(f"no search of model {model} has a completed run")


def _curve_budgets(runs: pd.DataFrame, training: float) -> dict[str, list[float]]:
    """Method -> budgets (trainings): powers of 2 and three between, from its first choice to its end, and these two.

    For PBT, what each population has spent.
    """
    limit = _reached(runs) / training
    found: dict[str, set[float]] = {}
    for arm, of_arm in runs.groupby("arm", sort=True):
        trainings = (of_arm["spent"] / training).groupby(of_arm["replicate"])
        end = float(trainings.max().max())
        if _POPULATION.fullmatch(str(arm)):
            found.setdefault(POPULATIONS, set()).add(end)
            continue
        completed = of_arm[of_arm["status"] == "completed"]
        first = (completed["spent"] / training).groupby(completed["replicate"]).min().max()
        end = max(min(end, limit), first)
        steps = 2 ** (np.arange(_STEPS * np.log2(max(end, 1)) + 1) / _STEPS)
        found[METHODS.get(str(arm), str(arm))] = {first, *steps[(steps > first) & (steps < end)].tolist(), end}
    return {method: sorted(b for b in budgets if np.isfinite(b)) for method, budgets in found.items()}


def _reached(runs: pd.DataFrame) -> float:
    """The most that a search has spent. Reruns are paid on top of it, and are followed no further."""
    searches = runs[~runs["arm"].str.endswith("rerun")]
    return float((runs if searches.empty else searches)["spent"].max())


@dataclass(frozen=True, kw_only=True)
class Standing(Row):
    """A method at one budget, and its difference to T1-T2's `online` at the same budget."""

    bounds_of = "difference"

    budget: str  # ``8``, ``one online``, ``one online + rerun``, ``PBT of 4``
    trainings: float
    method: str
    expected: Estimate  # mean over the repetitions; NaN where one of them has no choice yet
    difference: Estimate  # expected - that of online, over the repetitions of both, in pairs; below 0: better
    verdict: Verdict | None  # None where there is no difference to judge
    seconds: float  # of training, mean over the repetitions


def standings(
    runs: pd.DataFrame, model: str, *, training: float, metric: str = "test_loss", seed: int = 0
) -> tuple[Standing, ...] | NotComputable:
    """Every method at 1, 2, 4, 8 and 16 trainings, and at the prices of T1-T2 and of each population.

    Budgets that no search has reached are left out.
    """
    lacking = _lacking(runs, model)
    if lacking:
        return lacking
    budgets = _table_budgets(runs[runs["model"] == model], training)
    found = choices(runs, model, training=training, budgets=list(budgets.values()), metric=metric)
    rows = []
    for label, budget in budgets.items():
        online = found[ONLINE].known(budget) if ONLINE in found else None
        for method, chosen in found.items():
            values = chosen.known(budget)
            difference = unknown()
            if values is not None and online is not None and method != ONLINE:
                difference = _mean((values - online).dropna(), seed)
            rows.append(
                Standing(
                    budget=label,
                    trainings=budget,
                    method=method,
                    expected=unknown() if values is None else _mean(values, seed),
                    difference=difference,
                    verdict=_verdict(difference),
                    seconds=float("nan") if values is None else float(chosen.seconds[budget].mean()),
                )
            )
    return tuple(rows)


baseline_standings = framed(standings)


def _table_budgets(runs: pd.DataFrame, training: float) -> dict[str, float]:
    """Label -> budget in trainings, rising: those of :data:`BUDGETS` that a search has reached, and prices.

    A population costs a little more than as many trainings as it has members: its evaluations of T2 count too.
    """
    reached = _reached(runs) / training * (1 + _ROUNDING)
    budgets = {str(budget): float(budget) for budget in BUDGETS if budget <= reached}
    completed = runs[runs["status"] == "completed"]
    prices = completed.groupby("arm")["compute"].max() / training
    if "online" in prices:
        budgets[f"one {ONLINE}"] = float(prices["online"])
        if "rerun" in prices:
            budgets[f"one {BOTH}"] = float(prices["online"] + prices["rerun"])
    for arm, spent in (runs.groupby("arm")["spent"].max() / training).items():
        if population := _POPULATION.fullmatch(str(arm)):
            budgets[f"{POPULATIONS} of {population.group(1)}"] = float(spent)
    return dict(sorted(budgets.items(), key=lambda part: part[1]))


def _mean(values: pd.Series[float], seed: int) -> Estimate:
    return bootstrap(np.asarray(values.sort_index(), dtype=float), np.mean, seed=seed)


def _verdict(difference: Estimate) -> Verdict | None:
    if not (np.isfinite(difference.low) and np.isfinite(difference.high)):
        return None
    return "ahead" if difference.high < 0 else "behind" if difference.low > 0 else "no difference"


def _lacking(runs: pd.DataFrame, model: str) -> NotComputable | None:
    absent = [name for name in COLUMNS if name not in runs.columns]
    if absent:
        return NotComputable(f"the runs of the baselines have no column {', '.join(absent)}")
    if not (runs["model"] == model).any():
        return NotComputable(f"no search of model {model} has a run")
    return None


@dataclass(frozen=True, kw_only=True)
class BaselineSummary:
    """The baselines of one model."""

    training: float  # inner-step equivalents of one training with fixed hyperparameters: the unit of compute
    repetitions: int  # the most that a search has
    standings: tuple[Standing, ...] | NotComputable
    curve: pd.DataFrame | NotComputable  # of :func:`baseline_curve`


def summarise_baselines(
    baselines: Study, models: Iterable[str], *, seed: int = 0
) -> dict[str, BaselineSummary | NotComputable]:
    """Model -> its baselines, of the searches that were run beside a study."""
    runs = baselines.runs
    found: dict[str, BaselineSummary | NotComputable] = {}
    for model in models:
        training = training_cost(baselines, model)
        found[model] = (
            training
            if isinstance(training, NotComputable)
            else BaselineSummary(
                training=training,
                repetitions=int(runs.loc[runs["model"] == model, "replicate"].nunique()),
                standings=standings(runs, model, training=training, seed=seed),
                curve=baseline_curve(runs, model, training=training, seed=seed),
            )
        )
    return found
