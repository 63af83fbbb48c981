from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.frames import NotComputable
from analysis.plots import style
from analysis.report.build import SECTIONS
from analysis.report.section import Picture, draw
from analysis.report.view import StudyView


def drawn_texts(figure: Figure) -> list[tuple[str, Any]]:
    """Every text that is drawn, with its extent in pixels; an axis also has labels outside its view, which are not."""
    figure.draw_without_rendering()
    hidden: set[Text] = set()
    for axis in (a for ax in figure.axes for a in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        slack = 1e-9 * (high - low)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low - slack <= tick.get_loc() <= high + slack:
                hidden |= {tick.label1, tick.label2}
    return [
        (t.get_text(), t.get_window_extent())
        for t in figure.findobj(Text)
        if t not in hidden and t.get_visible() and t.get_text().strip()
    ]


DRAWINGS = {drawing.stem: drawing for section in SECTIONS for drawing in section.drawings}


@pytest.mark.parametrize("stem", DRAWINGS)
def test_no_words_of_a_picture_overlap(stem: str, view: StudyView) -> None:
    with style.paper_style():
        drawn = DRAWINGS[stem].draw(view)
        assert not isinstance(drawn, NotComputable)
        words = drawn_texts(drawn[0])
    assert len(words) > 8
    for (first, a), (second, b) in combinations(words, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        up = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 1.5 or up < 1.5, f"{stem}: {first!r} lies on {second!r}"
    assert drawn[1].endswith(".")
    assert len(drawn[1]) > 80  # the caption defines what is shown


def test_what_cannot_be_drawn_is_a_picture_with_a_reason(tmp_path: Path) -> None:
    picture = draw("Title", tmp_path / "stem", lambda: NotComputable("no run"))
    assert picture == Picture(title="Title", text="no run")
    assert list(tmp_path.iterdir()) == []
