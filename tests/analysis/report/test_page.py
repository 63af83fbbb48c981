"""The page: it carries all that it shows, and says what its numbers mean."""

from __future__ import annotations

import re

from analysis.report.build import ReportPaths
from tests.analysis.report.html_page import Page


def test_the_page_carries_everything_and_asks_for_nothing(page: Page) -> None:
    assert page.opened.count("img") == 10
    assert "Regions by model: not drawn. 1 of the models has a region: a comparison needs two." in page.text
    for tag, name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith(("data:", "#")) or tag == "a", (tag, name, value[:80])
        assert not name.startswith("on")
    assert not {"iframe", "object", "embed", "base", "form"} & set(page.opened)
    assert not re.search(r"@import|url\(\s*['\"]?http|fetch\(|XMLHttpRequest|import\(", "".join(page.scripts))
    addresses = re.findall(r"https?://[^\s\"']+", "".join(page.scripts))
    assert set(addresses) == {"http://www.w3.org/2000/svg"}  # a name, not a place


def test_links_of_the_page_lead_to_files_that_are_there(page: Page, written: ReportPaths) -> None:
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    anchors = {value for _, name, value in page.attributes if name == "id"}
    assert len(links) > 25
    for link in links:
        assert link[1:] in anchors if link.startswith("#") else (written.html.parent / link).exists(), link


def test_numbers_stand_with_their_intervals_and_definitions(page: Page, written: ReportPaths) -> None:
    summary = written.statistics[0].to_dict()
    shares = summary["models"]["mlp-64"]["region"]["t2_loss"]["shares"]
    for name in ("start", "end"):
        low, value, high = (shares[name][k] for k in ("low", "value", "high"))
        assert f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]" in page.text
    for definition in summary["definitions"].values():
        assert definition in page.text
    assert "58 %" in page.text
    assert "log₁₀ L2 penalty" in page.text
