"""A study's main figures as lines of text, a column for each model: what ``t1t2 run`` prints at its end."""

from __future__ import annotations

import math

from analysis.frames import NotComputable
from analysis.report.text import NONE
from analysis.statistics.improvement import OUTCOMES
from analysis.statistics.intervals import Estimate
from analysis.statistics.overhead import Overhead
from analysis.statistics.summary import DECISIVE, ModelSummary, Summary

REGION = ("optimal region, share of the box", "  online runs that start in it", "  online runs that end in it")
DIFFERENCE, TIME = "test loss, rerun − online", "time, online / initial"


def main_figures(summary: Summary) -> list[tuple[str, ...]]:
    """A label, then a text for each model, with 95 % intervals. An en dash stands for what the study does not allow."""
    by_model = [_of_model(parts, summary.overhead_of(model)) for model, parts in summary.models.items()]
    spreads = dict.fromkeys(label for column in by_model for label in column if label.startswith("spread"))
    labels = [*REGION, *spreads, *(f"initial → rerun, {outcome}" for outcome in OUTCOMES), DIFFERENCE, TIME]
    return [(label, *(column.get(label, NONE) for column in by_model)) for label in labels]


def _of_model(parts: ModelSummary, overhead: Overhead | NotComputable) -> dict[str, str]:
    """Label -> text, of what could be computed for one model."""
    texts: dict[str, str] = {}
    found, improvement = parts.region[DECISIVE], parts.improvement["rerun"]
    pair = parts.diagonal["online_rerun"]["test_loss"]
    if not isinstance(found, NotComputable):
        too_large = "" if found.region.discriminates else ", too large to tell"
        texts[REGION[0]] = f"{found.region.volume:.1%}{too_large}"
        if not isinstance(found.shares, NotComputable):
            texts |= {REGION[1]: _share(found.shares.start), REGION[2]: _share(found.shares.end)}
    if not isinstance(parts.contraction, NotComputable):
        texts |= {
            f"spread of {c.along}, end / start": _ratio(c.std_ratio) for c in parts.contraction if not c.is_direction
        }
    if not isinstance(improvement, NotComputable) and not isinstance(improvement.split, NotComputable):
        texts |= {f"initial → rerun, {part.outcome}": _share(part.share) for part in improvement.split}
    if not isinstance(pair, NotComputable):
        verdict = ", equivalent" if pair.equivalent else ""
        texts[DIFFERENCE] = _with_interval(pair.mean_difference, "+.4f", verdict)
    if not isinstance(overhead, NotComputable):
        texts[TIME] = _ratio(overhead.ratio)
    return texts


def _share(estimate: Estimate) -> str:
    return _with_interval(estimate, ".0%", f" of {estimate.n}")


def _ratio(estimate: Estimate) -> str:
    return _with_interval(estimate, ".2f")


def _with_interval(estimate: Estimate, form: str, after: str = "") -> str:
    """``1.12 [1.10, 1.13]``; an en dash where the value or its interval is not known."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if not all(map(math.isfinite, (value, low, high))):
        return NONE
    return f"{value:{form}} [{low:{form}}, {high:{form}}]{after}"
