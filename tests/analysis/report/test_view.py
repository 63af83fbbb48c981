"""A study as the report sees it: what it says of the starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis.frames import NotComputable
from analysis.plots import style
from analysis.report.build import SECTIONS
from analysis.report.view import StudyView

DRAWINGS = {drawing.stem: drawing for section in SECTIONS for drawing in section.drawings}


def with_starts(view: StudyView, starts: dict[str, Any]) -> StudyView:
    """The same study, as if its spec gave these starts."""
    spec = view.study.spec
    tables = {name: spec["hyperparameters"][name] | {"start": start} for name, start in starts.items()}
    return replace(view, study=replace(view.study, spec=spec | {"hyperparameters": spec["hyperparameters"] | tables}))


def caption(view: StudyView, stem: str) -> str:
    with style.paper_style():
        drawn = DRAWINGS[stem].draw(view)
    assert not isinstance(drawn, NotComputable)
    return drawn[1]


@pytest.mark.parametrize("stem", ["region_convergence", "contraction", "equal_compute"])
def test_starts_that_are_not_uniform_over_the_box_are_told_where_they_matter(view: StudyView, stem: str) -> None:
    first, second = list(view.study.boxes)[:2]
    told = with_starts(view, {first: {"normal": [-4.0, 0.5]}, second: {"choice": [0.1 * k for k in range(8)]}})
    sentence = (
        f" Not all starts are uniform over the box: the study draws {first} by normal [-4, 0.5], {second} by choice "
        "[0, 0.1, 0.2, 0.3, 0.4, 0.5, …]."
    )
    assert sentence in caption(told, stem)
    assert "Not all starts" not in caption(view, stem)


def test_starts_do_not_change_the_box(view: StudyView) -> None:
    first = next(iter(view.study.boxes))
    assert with_starts(view, {first: {"normal": [-4.0, 0.5]}}).study.boxes == view.study.boxes
