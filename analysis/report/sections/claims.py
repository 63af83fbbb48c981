"""The first table: what the slides claim, and the figures of this report beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from analysis.frames import NotComputable
from analysis.report.tables import Columns, Found, Raw, Table, gaps, make_table
from analysis.report.text import NONE, number, share, word
from analysis.report.view import StudyView
from analysis.statistics.diagonal import Diagonal
from analysis.statistics.improvement import SplitShare
from analysis.statistics.intervals import Estimate
from analysis.statistics.records import bounded, computed
from analysis.statistics.region_shares import RegionShares
from analysis.statistics.summary import DECISIVE, DEFINITIONS, Summary

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

    def share_of(self, outcome: str) -> Estimate | None:
        """The share of the configurations with one of the outcomes of the split."""
        return next((part.share for part in self.split if part.outcome == outcome), None)

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


COLUMNS: Columns[Claims] = [
    ("region / box", lambda r: share(r.volume)),
    ("start inside", lambda r: share(r.shares.start if r.shares else None)),
    ("end inside", lambda r: share(r.shares.end if r.shares else None)),
    ("good → good", lambda r: share(r.share_of("good→good"))),
    ("bad → good", lambda r: share(r.share_of("bad→good"))),
    ("rerun − online, test loss", lambda r: number(r.pair.mean_difference if r.pair else None)),
    ("equivalent", lambda r: word(r.pair.equivalent if r.pair else None)),
    ("time ratio", lambda r: number(r.ratio)),
]


def claims(views: Sequence[StudyView]) -> Table:
    """The claims of the slides, then one row for each study and model."""
    found = [part for view in views for part in _found(view.summary)]
    # The row of the slides needs the column of the study, even where there is one study.
    table = make_table(found, COLUMNS, Claims.raw, name="claims", title="The claims", note=NOTE, several=True)
    return replace(
        table,
        cells=[SLIDES_CELLS, *table.cells] if table.cells else [],
        rows=[SLIDES, *table.rows] if table.rows else [],
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
