"""Several studies side by side, for example one for each hypergradient estimator on the same problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.frames import NotComputable, one_arm
from analysis.statistics.intervals import Estimate, bootstrap, unknown
from analysis.statistics.records import Row, to_frame
from analysis.statistics.region import Region
from analysis.statistics.region_shares import region_shares
from analysis.statistics.summary import Summary, summarise
from analysis.study import Study

_PROBLEM = ("data", "inner", "hyperparameters")  # the parts of a spec that a region depends on, beside the model


@dataclass(frozen=True, kw_only=True)
class StudyComparison(Row):
    """One model of one study beside those of others. What cannot be computed is NaN, and ``reason`` says why."""

    study: str
    estimator: str | None
    model: str
    reference: str | None  # the study whose region it is judged by
    n: int  # online runs with a result
    diverged: int
    volume: float
    best_cell_test_loss: float
    start_share: Estimate
    end_share: Estimate
    online_test_loss: Estimate
    rerun_test_loss: Estimate
    initial_test_loss: Estimate
    cost: Estimate  # time of online over initial
    reason: str | None


def study_comparisons(
    studies: Sequence[Study], summaries: Sequence[Summary], *, seed: int = 0
) -> tuple[StudyComparison, ...]:
    """One row for each study and model: region shares, losses, and cost in multiples of a fixed training.

    A study without a grid of its own is judged by the region of the first study that has one for the same problem: the
    same data, inner training, boxes and model.
    """
    both = list(zip(studies, summaries, strict=True))
    rows = []
    for study, summary in both:
        for model, found in summary.models.items():
            region, reference = found.decisive, study.name
            if isinstance(region, NotComputable):
                for other, theirs in both:
                    lent = theirs.models[model].decisive if model in theirs.models else region
                    if isinstance(lent, Region) and _same_problem(study, other):
                        region, reference = lent, other.name
                        break
            rows.append(_compare(study, summary, model, region, reference=reference, seed=seed))
    return tuple(rows)


def compare_studies(studies: Sequence[Study], *, seed: int = 0) -> pd.DataFrame:
    """:func:`study_comparisons` of the studies' summaries as a frame.

    Columns: the fields of :class:`StudyComparison`; each estimate is followed by its bounds, with _low and _high.
    """
    rows = study_comparisons(studies, [summarise(study, seed=seed) for study in studies], seed=seed)
    return to_frame(rows)


def _same_problem(first: Study, second: Study) -> bool:
    for part in _PROBLEM:
        a, b = first.spec.get(part), second.spec.get(part)
        if part == "hyperparameters":  # rates and sharing belong to the tuning, the boxes to the problem
            a, b = first.boxes, second.boxes
        if a != b:
            return False
    return True


def _compare(
    study: Study, summary: Summary, model: str, region: Region | NotComputable, *, reference: str, seed: int
) -> StudyComparison:
    runs = study.runs[study.runs["model"] == model]
    online = one_arm(runs, model, "online")
    shares = region_shares(runs, region, seed=seed) if isinstance(region, Region) else region
    cost = summary.overhead_of(model)
    losses = {
        arm: bootstrap(one_arm(runs, model, arm, completed=True)["test_loss"].to_numpy(dtype=float), np.mean, seed=seed)
        for arm in ("online", "rerun", "initial")
    }
    return StudyComparison(
        study=study.name,
        estimator=(study.spec.get("outer") or {}).get("estimator"),
        model=model,
        reference=reference if isinstance(region, Region) else None,
        n=len(online),
        diverged=int((online["status"] == "diverged").sum()),
        volume=region.volume if isinstance(region, Region) else float("nan"),
        best_cell_test_loss=_best_cell(study, region) if isinstance(region, Region) else float("nan"),
        start_share=unknown() if isinstance(shares, NotComputable) else shares.start,
        end_share=unknown() if isinstance(shares, NotComputable) else shares.end,
        online_test_loss=losses["online"],
        rerun_test_loss=losses["rerun"],
        initial_test_loss=losses["initial"],
        cost=unknown() if isinstance(cost, NotComputable) else cost.ratio,
        reason="; ".join(part.reason for part in (shares, cost) if isinstance(part, NotComputable)) or None,
    )


def _best_cell(study: Study, region: Region) -> float:
    """Mean test loss of the region's best cell, which was chosen on T2; NaN where this study has no grid of its own."""
    grid = study.runs[(study.runs["arm"] == "grid") & (study.runs["model"] == region.model)]
    return float(grid.loc[grid["config_index"] == region.best_index, "test_loss"].mean())
