import html
import json
import re
from http import HTTPStatus
from pathlib import Path

from service.web.routes import EVENTS_SHOWN, latest_events, respond
from tests.service.toy_studies import run_toy


def test_a_root_without_studies_says_how_to_start_one(tmp_path: Path) -> None:
    answer = respond(str(tmp_path), "/")
    assert answer.status == HTTPStatus.OK
    assert "t1t2 run SPEC.toml" in answer.content.decode()


def test_a_report_alone_may_run_its_own_script(tmp_path: Path) -> None:
    run_toy(tmp_path / "toy", configurations=1)
    (tmp_path / "toy" / "report.html").write_text("the report")
    report = respond(str(tmp_path), "/studies/toy/report.html")
    assert (report.content, report.status) == (b"the report", HTTPStatus.OK)
    assert "script-src" in report.content_policy
    for path in ("/", "/studies/toy", "/api/studies", "/nothing"):
        assert "script-src" not in respond(str(tmp_path), path).content_policy


def test_an_error_is_json_below_api_and_a_page_elsewhere(tmp_path: Path) -> None:
    for path, content_type in (("/api/nothing", "application/json"), ("/nothing", "text/html; charset=utf-8")):
        answer = respond(str(tmp_path), path)
        assert (answer.status, answer.content_type) == (HTTPStatus.NOT_FOUND, content_type)
    assert json.loads(respond(str(tmp_path), "/api/nothing").content) == {
        "error": "/api/nothing: there is no such page"
    }


def test_the_latest_events_come_first_and_only_those_worth_telling(tmp_path: Path) -> None:
    run_toy(tmp_path / "toy", trainer="tests.service.toy:failing", configurations=12)
    events = latest_events(str(tmp_path / "toy"))
    assert len(events) == EVENTS_SHOWN
    assert [event.time for event in events] == sorted((event.time for event in events), reverse=True)
    assert {event.kind for event in events} <= {"run_failed", "run_diverged", "study_started", "resumed", "retry"}


def test_a_damaged_study_is_a_row_that_says_so(tmp_path: Path) -> None:
    run_toy(tmp_path / "fine", name="fine", configurations=1)
    (tmp_path / "<b>").mkdir()
    (tmp_path / "<b>" / "study.json").write_text('{"schema_version": "one"}')
    answer = respond(str(tmp_path), "/")
    page = answer.content.decode()
    assert answer.status == HTTPStatus.OK
    assert page.index('href="/studies/%3Cb%3E"') < page.index('href="/studies/fine"')
    text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())
    assert (
        f"<b> unreadable {tmp_path}/<b>/study.json: is damaged (unusable: schema_version); put a copy of it back"
        in text
    )
    studies = json.loads(respond(str(tmp_path), "/api/studies").content)
    assert [study["state"] for study in studies] == ["unreadable", "completed"]
