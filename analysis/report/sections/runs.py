"""The section of the runs: how many completed, diverged and failed."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.report.section import Section
from analysis.report.tables import Found, Table, make_table
from analysis.report.text import word
from analysis.report.view import StudyView
from analysis.statistics.summary import Count


def counts(views: Sequence[StudyView]) -> Table:
    """How many runs completed, diverged and failed."""
    return make_table(
        [Found(study=view.study.name, model=row.model, row=row) for view in views for row in view.summary.counts],
        [("arm", lambda r: word(r.arm)), ("status", lambda r: word(r.status)), ("runs", lambda r: word(r.runs))],
        Count.published,
        name="runs",
        title="Runs",
        note="A diverged run ended with a non-finite loss: it is a result and counts as bad. A failed run has no "
        "result and is left out.",
        several=len(views) > 1,
    )


SECTION = Section(key="runs", title="The runs", tables=(counts,))
