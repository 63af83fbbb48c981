"""A section of the report: a question, what the slides claim, the pictures of each study, and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.frames import NotComputable
from analysis.plots import style
from analysis.report.tables import Table
from analysis.report.view import Drawn, StudyView


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture that can be drawn of a study: ``draw`` returns the figure and its caption, or why there is none."""

    stem: str  # of its files
    title: str
    draw: Callable[[StudyView], Drawn | NotComputable]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page; each of ``tables`` makes one table of all the studies."""

    key: str  # its anchor
    title: str
    claim: str | None = None  # what the slides say
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Callable[[Sequence[StudyView]], Table]] = ()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that was drawn, or, where ``png`` is None, why it could not be (``text``)."""

    title: str
    text: str  # caption, or the reason
    png: Path | None = None
    svg: Path | None = None


def draw(title: str, stem: Path, make: Callable[[], Drawn | NotComputable]) -> Picture:
    """The picture that ``make`` draws, written as ``stem``.png and .svg; or why there is none."""
    with style.paper_style():
        drawn = make()
    if isinstance(drawn, NotComputable):
        return Picture(title=title, text=drawn.reason)
    figure, caption = drawn
    png, svg = style.save_figure(figure, stem)
    return Picture(title=title, text=caption, png=png, svg=svg)
