"""The report: pictures, tables, summary.json and one self-contained page, from the Parquet of one or more studies.

Nothing in it depends on when or where it was made: the same studies give the same files, byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from analysis.report.page import ShownSection, SideBySide, render_page
from analysis.report.section import Section, draw
from analysis.report.sections import baselines, cost, diagonal, improvement, models, overlay, region, runs
from analysis.report.sections.claims import claims
from analysis.report.sections.comparison import comparison, draw_comparison
from analysis.report.tables import write_tables
from analysis.report.view import MOST_RUNS, StudyView
from analysis.statistics.comparison import study_comparisons
from analysis.statistics.records import to_plain
from analysis.statistics.summary import SUMMARY_VERSION, Summary, summarise
from analysis.study import Study

# In the order of the page; before them stand the claims and, of several studies, their comparison.
SECTIONS: tuple[Section, ...] = (
    region.SECTION,
    improvement.SECTION,
    diagonal.SECTION,
    cost.SECTION,
    baselines.SECTION,
    models.SECTION,
    runs.SECTION,
)
PAGE_RUNS = 2400  # runs that the interactive scatter carries in all: about two megabytes
LEAST_RUNS = 24  # of them for each model, however many models there are


@dataclass(frozen=True, kw_only=True)
class ReportPaths:
    """Where the files of a report are, and the statistics that it shows."""

    html: Path
    summary: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    statistics: tuple[Summary, ...] = field(repr=False)  # one of each study


def write_report(
    studies: Sequence[Study], out: str | Path, sections: Sequence[Section] = SECTIONS, *, beside: Sequence[Study] = ()
) -> ReportPaths:
    """Write report.html, summary.json, figures/*.png and *.svg, and tables/*.csv and *.md below ``out``.

    ``summary.json`` holds ``{"version", "studies": [:meth:`Summary.to_dict` of each], "comparison": rows of
    :func:`compare_studies` or null}``. ``sections`` are those of the page, in order. Runs of the studies ``beside``,
    such as imported searches, are laid over the region of each of ``studies``, in a section before the others. A part
    that a study does not allow is missing, with its reason, and the rest is made. Raises ValueError where there is no
    study, OSError where ``out`` cannot be written.
    """
    if not studies:
        raise ValueError("write_report: no study given; one or more are expected")
    out = Path(out)
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    views = _views(studies, tuple(beside))
    sections = [overlay.SECTION, *sections] if beside else sections
    summaries = tuple(view.summary for view in views)
    rows = study_comparisons(studies, summaries) if len(studies) > 1 else None
    first_table = claims(views)
    shown = _show(sections, views, folder)
    side_by_side = None
    if rows is not None:
        picture = draw("Studies side by side", folder / "comparison", partial(draw_comparison, rows))
        side_by_side = SideBySide(picture=picture, table=comparison(rows))
    summary, html = out / "summary.json", out / "report.html"
    content = to_plain({"version": SUMMARY_VERSION, "studies": summaries, "comparison": rows})
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    summary.write_text(text + "\n", encoding="utf-8")
    page = render_page(views, claims=first_table, comparison=side_by_side, sections=shown)
    html.write_text(page, encoding="utf-8")
    pictures = [p for place in range(len(views)) for s in shown if s.pictures for p in s.pictures[place][1]]
    tables = [first_table, *(table for section in shown for table in section.tables)]
    if side_by_side is not None:
        pictures.append(side_by_side.picture)
        tables.append(side_by_side.table)
    return ReportPaths(
        html=html,
        summary=summary,
        figures=tuple(path for p in pictures if p.png and p.svg for path in (p.png, p.svg)),
        tables=write_tables(tables, out / "tables"),
        statistics=summaries,
    )


def _views(studies: Sequence[Study], beside: tuple[Study, ...]) -> list[StudyView]:
    panels = sum(len(study.models) for study in studies)
    most_runs = max(LEAST_RUNS, min(MOST_RUNS, PAGE_RUNS // max(panels, 1)))
    return [StudyView(study=study, summary=summarise(study), most_runs=most_runs, beside=beside) for study in studies]


def _show(sections: Sequence[Section], views: Sequence[StudyView], folder: Path) -> list[ShownSection]:
    """Each section with its tables, and with its pictures of each study."""
    prefixes = _prefixes([view.study for view in views])
    return [
        ShownSection(
            section=section,
            pictures=[
                (
                    view.study.name,
                    [draw(d.title, folder / f"{prefix}{d.stem}", partial(d.draw, view)) for d in section.drawings],
                )
                for view, prefix in zip(views, prefixes, strict=True)
                if section.drawings
            ],
            tables=[make(views) for make in section.tables],
        )
        for section in sections
    ]


def _prefixes(studies: Sequence[Study]) -> list[str]:
    """What the names of each study's pictures begin with: nothing for a single study."""
    if len(studies) == 1:
        return [""]
    slugs = [re.sub(r"[^A-Za-z0-9.-]+", "-", s.name).strip("-.") or "study" for s in studies]
    return [f"{slug}_" if slugs.count(slug) == 1 else f"{slug}-{place + 1}_" for place, slug in enumerate(slugs)]
