"""The page: one self-contained HTML file, from tables and pictures that are made already."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.report.scatter import scatter_json
from analysis.report.section import Picture, Section
from analysis.report.tables import Table
from analysis.report.view import StudyView
from analysis.study import Study


@dataclass(frozen=True, kw_only=True)
class ShownSection:
    """A section with what was made for it: pictures (of each study, by its name) and tables."""

    section: Section
    pictures: Sequence[tuple[str, Sequence[Picture]]]
    tables: Sequence[Table]


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """The comparison of several studies."""

    picture: Picture
    table: Table


def render_page(
    views: Sequence[StudyView], *, claims: Table, comparison: SideBySide | None, sections: Sequence[ShownSection]
) -> str:
    """The page as HTML."""
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            studies=[_about(view.study) for view in views],
            several=len(views) > 1,
            claims=claims,
            comparison=comparison,
            sections=sections,
            scatter=Markup(scatter_json(views)),
        )
    )


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
