from __future__ import annotations

import json
from dataclasses import replace

from analysis.plots import style
from analysis.report.sections.comparison import comparison, draw_comparison
from analysis.statistics.comparison import study_comparisons
from analysis.statistics.summary import Summary
from analysis.study import Study


def test_studies_side_by_side_in_a_table_and_a_picture(study: Study, summary: Summary) -> None:
    other = replace(study, name="other")
    rows = study_comparisons([study, other], [summary, summary])
    table = comparison(rows)
    assert [row[0] for row in table.cells] == ["synthetic", "synthetic", "other", "other"]
    assert [row["reference"] for row in table.rows] == ["synthetic", "synthetic", "other", "other"]
    assert {len(row) for row in table.cells} == {len(table.headers)}
    assert table.gaps == []
    json.dumps(table.rows, allow_nan=False)
    with style.paper_style():
        figure, caption = draw_comparison(rows)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [f"{r.study} · {r.model}" for r in rows]
    assert caption.endswith(".")
