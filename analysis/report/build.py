"""The report: pictures, tables, summary.json and one self-contained page, from the Parquet of one or more studies.

Nothing in it depends on when or where it was made: the same studies give the same files, byte for byte.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.report.figures import Picture, comparison_picture, study_pictures
from analysis.report.rows import all_tables
from analysis.report.scatter import scatter_json
from analysis.report.tables import Table, write_tables
from analysis.report.view import MOST_RUNS, StudyView
from analysis.statistics.comparison import compare_studies
from analysis.statistics.summary import summarise, to_plain
from analysis.study import Study

SECTIONS = (  # key, heading, and what the seed's slides say about it
    (
        "region",
        "Do the runs end in one optimal region?",
        "“Training the model multiple times, with different initial configurations, it's possible to see how the "
        "algorithm tunes the HPs into the same optimal region.”",
    ),
    (
        "improvement",
        "How many configurations does it improve?",
        "“58 % of the runs achieve good performances whether with the initial configuration or the optimized one. 20 % "
        "of the runs improve their performances drastically thanks to the algorithm.”",
    ),
    (
        "diagonal",
        "Is retraining needed?",
        "“The performances lie always close to the main diagonal […] training again the model with the optimized "
        "configuration is not required.”",
    ),
    ("cost", "What does it cost, and is it worth it?", "“The training time has increased by 2s (12%).”"),
    (
        "models",
        "Do the regions differ by model size?",
        "“Different model sizes have slightly different optimal regions.”",
    ),
    ("runs", "The runs", None),
)
PAGE_RUNS = 2400  # runs that the interactive scatter carries in all: about two megabytes


@dataclass(frozen=True)
class ReportPaths:
    """Where the files of a report are."""

    html: Path
    summary: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]


def write_report(studies: Sequence[Study], out: str | Path) -> ReportPaths:
    """Write report.html, summary.json, figures/*.png and *.svg, and tables/*.csv and *.md below ``out``.

    ``summary.json`` holds ``{"version", "studies": [one dictionary of :func:`summarise` each], "comparison": rows of
    :func:`compare_studies` or null}``. A part that a study does not allow is missing, with its reason, and the rest is
    made. Raises ValueError where there is no study, OSError where ``out`` cannot be written.
    """
    if not studies:
        raise ValueError("write_report: no study given; one or more are expected")
    out = Path(out)
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    panels = sum(len(s.models) for s in studies)
    views = [StudyView(s, max(24, min(MOST_RUNS, PAGE_RUNS // max(panels, 1)))) for s in studies]
    summaries = [summarise(s) for s in studies]
    several = len(studies) > 1
    rows = compare_studies(studies) if several else None
    comparison = None if rows is None else to_plain(rows)
    tables = all_tables(summaries, comparison)
    drawn = [
        (view, study_pictures(view, folder, prefix)) for view, prefix in zip(views, _prefixes(studies), strict=True)
    ]
    compared = None if rows is None else comparison_picture(rows, folder)
    summary = out / "summary.json"
    summary.write_text(
        json.dumps(
            {"version": 1, "studies": summaries, "comparison": comparison},
            indent=1,
            ensure_ascii=False,
            allow_nan=False,
        )
        + "\n",
        encoding="utf-8",
    )
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            studies=[_about(s) for s in studies],
            several=several,
            sections=_sections(drawn, tables),
            claims=tables[0],
            comparison=_comparison(compared, tables),
            scatter=Markup(scatter_json(views)),
            definitions=summaries[0]["definitions"],
        )
    )
    html = out / "report.html"
    html.write_text(page, encoding="utf-8")
    pictures = [p for _, found in drawn for p in found] + ([compared] if compared else [])
    files = [path for p in pictures if p.png and p.svg for path in (p.png, p.svg)]
    return ReportPaths(html, summary, tuple(files), write_tables(tables, out / "tables"))


def _prefixes(studies: Sequence[Study]) -> list[str]:
    """What the names of each study's pictures begin with: nothing for a single study."""
    if len(studies) == 1:
        return [""]
    slugs = [re.sub(r"[^A-Za-z0-9.-]+", "-", s.name).strip("-.") or "study" for s in studies]
    return [f"{slug}_" if slugs.count(slug) == 1 else f"{slug}-{place + 1}_" for place, slug in enumerate(slugs)]


def _about(study: Study) -> dict[str, Any]:
    """What the page says of a study: its name, its hash, its spec and where it came from."""
    provenance = study.info.get("provenance") or {}
    return {
        "name": study.name,
        "hash": study.study_hash,
        "runs": len(study.runs),
        "models": study.models,
        "dataset": sorted(map(str, study.runs["dataset"].unique())) if "dataset" in study.runs else [],
        "skipped": list(study.skipped),
        "spec": _pretty(study.spec),
        "provenance": _pretty(provenance),
    }


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) if value else ""


def _sections(drawn: Sequence[tuple[StudyView, list[Picture]]], tables: Sequence[Table]) -> list[dict[str, Any]]:
    """The page's sections in order, each with its tables and, by study, its pictures and what is missing."""
    return [
        {
            "key": key,
            "title": title,
            "claim": claim,
            "tables": [t for t in tables if t.section == key],
            "studies": [
                {"name": view.study.name, "pictures": [p for p in pictures if p.section == key]}
                for view, pictures in drawn
                if any(p.section == key for p in pictures)
            ],
        }
        for key, title, claim in SECTIONS
    ]


def _comparison(picture: Picture | None, tables: Sequence[Table]) -> dict[str, Any] | None:
    table = next((t for t in tables if t.section == "comparison"), None)
    return None if picture is None else {"picture": picture, "table": table}


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("analysis.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {"data_uri": _data_uri, "interval": _interval}
    return environment


def _data_uri(png: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode()


def _interval(cell: str) -> Markup:
    """``79 % [68, 87]`` with its interval set smaller."""
    value, bracket, rest = cell.partition(" [")
    return Markup('{} <span class="interval">[{}</span>').format(value, rest) if bracket else escape(value)
