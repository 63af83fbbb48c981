"""The first table: what the slides claim, and the figures of this report beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.frames import NotComputable
from analysis.report.tables import Found, Raw, Table, gaps
from analysis.report.text import NONE, number, share, word
from analysis.report.view import StudyView
from analysis.statistics.diagonal import Diagonal
from analysis.statistics.improvement import SplitShare
from analysis.statistics.intervals import Estimate
from analysis.statistics.records import bounded, computed, to_plain
from analysis.statistics.region_shares import RegionShares
from analysis.statistics.summary import DECISIVE, DEFINITIONS, Summary

HEADERS = ["study", "model", "region / box", "start inside", "end inside", "good → good", "bad → good"]
HEADERS += ["rerun − online, test loss", "equivalent", "time ratio"]
SLIDES: Raw = {  # what the slides report; they give no thresholds and no intervals
    "study": "the slides",
    "model": NONE,
    "end_share": "the same optimal region",
    "good→good": 0.58,
    "bad→good": 0.20,
    "difference": "close to the diagonal",
    "ratio": 1.12,
}
SLIDES_CELLS = ["the slides", NONE, NONE, NONE, SLIDES["end_share"], share(SLIDES["good→good"])]
SLIDES_CELLS += [share(SLIDES["bad→good"]), SLIDES["difference"], NONE, number(SLIDES["ratio"])]
NOTE = "\n".join(
    [
        f"Region: {DEFINITIONS.region}",
        "Start and end inside: the share of the T1-T2 runs; a run that diverged ends outside.",
        f"Good: {DEFINITIONS.good} The arrow leads from the initial hyperparameters to a retraining with those that "
        "T1-T2 found.",
        f"Equivalent: {DEFINITIONS.equivalence}",
        "Time ratio: T1-T2 run over the same training with fixed hyperparameters, geometric mean of the pairs.",
        f"Intervals: {DEFINITIONS.intervals} The slides give no thresholds and no intervals.",
    ]
)


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What one model of one study says to each of the claims; None where it could not be computed."""

    volume: float | None
    shares: RegionShares | None
    split: Sequence[SplitShare]
    pair: Diagonal | None
    ratio: Estimate | None

    def raw(self) -> Raw:
        """The columns of the CSV file, without those of what could not be computed."""
        columns: Raw = {} if self.volume is None else {"volume": self.volume}
        if self.shares:
            columns |= {"n": self.shares.n}
            columns |= bounded("start_share", self.shares.start) | bounded("end_share", self.shares.end)
        for part in self.split:
            columns |= bounded(part.outcome, part.share)
        if self.pair:
            columns |= bounded("difference", self.pair.mean_difference)
            columns |= {"margin": self.pair.margin, "equivalent": self.pair.equivalent}
        return columns | (bounded("ratio", self.ratio) if self.ratio else {})

    def cells(self) -> list[str]:
        """The cells after study and model."""
        split = {part.outcome: part.share for part in self.split}
        return [
            share(self.volume),
            share(self.shares.start if self.shares else None),
            share(self.shares.end if self.shares else None),
            share(split.get("good→good")),
            share(split.get("bad→good")),
            number(self.pair.mean_difference if self.pair else None),
            word(self.pair.equivalent if self.pair else None),
            number(self.ratio),
        ]


def claims(views: Sequence[StudyView]) -> Table:
    """The claims of the slides, then one row for each study and model."""
    found = [part for view in views for part in _found(view.summary)]
    rows = [(part.study, part.model, part.row) for part in found if isinstance(part.row, Claims)]
    return Table(
        name="claims",
        title="The claims",
        note=NOTE,
        headers=HEADERS,
        cells=[SLIDES_CELLS] * bool(rows) + [[study, model or NONE, *row.cells()] for study, model, row in rows],
        rows=[SLIDES] * bool(rows)
        + [to_plain({"study": study, "model": model} | row.raw()) for study, model, row in rows],
        gaps=gaps(found, several=len(views) > 1),
    )


def _found(summary: Summary) -> Iterator[Found[Claims]]:
    """The row of each model, and before it a gap for each part of it that could not be computed."""
    for model, parts in summary.models.items():
        region, improvement = parts.region[DECISIVE], parts.improvement["rerun"]
        shares = region if isinstance(region, NotComputable) else region.shares
        split = improvement if isinstance(improvement, NotComputable) else improvement.split
        pair, overhead = parts.diagonal["online_rerun"]["test_loss"], summary.overhead_of(model)
        for part in (shares, split, pair):
            if isinstance(part, NotComputable):
                yield Found(study=summary.study.name, model=model, row=part)
        if isinstance(summary.overhead, NotComputable):
            yield Found(study=summary.study.name, row=summary.overhead)
        row = Claims(
            volume=None if isinstance(region, NotComputable) else region.region.volume,
            shares=computed(shares),
            split=computed(split) or (),
            pair=computed(pair),
            ratio=None if isinstance(overhead, NotComputable) else overhead.ratio,
        )
        yield Found(study=summary.study.name, model=model, row=row)
