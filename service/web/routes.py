"""The pages and the JSON of ``t1t2 serve``: what is at each path. All of them only read.

Every answer is made from the storage when it is asked for, so the server may run on any machine that sees the storage,
and keeps nothing. A new endpoint is a case of :func:`_route` and, if it is a page, a template.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from service.client.wording import TOLD_EVENTS, WARNINGS, duration, event_line, outcome_counts, rate, time_left
from service.errors import StorageError, StudyError, StudyNotFoundError
from service.records.events import Event, read_events
from service.records.progress import StudyStatus, list_studies, read_status, study_uri
from service.storage.files import open_storage
from service.web.links import check_links
from trainers.errors import shortened

if TYPE_CHECKING:
    from jinja2 import Environment

REFRESH_S = 5
EVENTS_SHOWN = 20
SEGMENTS_READ = 2  # of the event log, from its end: enough for the latest events, whatever the study's size
HTML, JSON = "text/html; charset=utf-8", "application/json"
# Pages carry their own style and nothing else; a report also its pictures and its script.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
REPORT_POLICY = f"{PAGE_POLICY}; script-src 'unsafe-inline'; img-src data:; font-src data:"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is sent back; ``content_policy`` says what a browser may load for it."""

    content: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK
    content_policy: str = PAGE_POLICY


def respond(storage: str, path: str) -> Answer:
    """The answer to a request for ``path``, for the studies below ``storage``."""
    try:
        parts = [unquote(part) for part in urlsplit(path).path.split("/") if part]
    except ValueError as error:  # no URL, for example http://[
        return _error(HTTPStatus.BAD_REQUEST, f"{shortened(path)}: is no path ({error})", as_json=False)
    as_json = parts[:1] == ["api"]
    try:
        answer = _route(storage, parts)
    except (StudyNotFoundError, FileNotFoundError) as error:
        return _error(HTTPStatus.NOT_FOUND, str(error), as_json)
    except StudyError as error:  # a name that is none, a damaged or a newer study
        return _error(HTTPStatus.BAD_REQUEST, str(error), as_json)
    except StorageError as error:
        return _error(HTTPStatus.BAD_GATEWAY, str(error), as_json)
    return answer or _error(HTTPStatus.NOT_FOUND, f"{shortened(path)}: there is no such page", as_json)


def _route(storage: str, parts: list[str]) -> Answer | None:
    match parts:
        case []:
            return _page("studies.html.j2", storage=storage, studies=_studies(storage))
        case ["studies", name]:
            return _study_page(_study_at(storage, name))
        case ["studies", name, "report.html"]:
            report = open_storage(_study_at(storage, name)).read("report.html")
            return Answer(content=report, content_type=HTML, content_policy=REPORT_POLICY)
        case ["api", "studies"]:
            return _json([study.to_dict() for study in _studies(storage)])
        case ["api", "studies", name]:
            return _json(read_status(_study_at(storage, name)).to_dict())
    return None


def _study_at(storage: str, name: str) -> str:
    """Where the study ``name`` is; raises StudyNotFoundError where that leads out of the storage root."""
    uri = study_uri(storage, name)
    check_links(storage, name)
    return uri


def _studies(storage: str) -> list[StudyStatus]:
    """The studies below the storage root, but for those that are links or hold some."""
    found = []
    for study in list_studies(storage):
        with suppress(StudyNotFoundError):
            check_links(storage, _directory(study))
            found.append(study)
    return found


def _study_page(uri: str) -> Answer:
    has_report = open_storage(uri).exists("report.html")
    return _page("study.html.j2", study=read_status(uri), events=latest_events(uri), has_report=has_report)


def latest_events(uri: str) -> list[Event]:
    """The latest events that a person wants to see, newest first."""
    told = [event for event in read_events(uri, last_segments=SEGMENTS_READ) if event.kind in TOLD_EVENTS]
    return told[: -EVENTS_SHOWN - 1 : -1]


def _page(template: str, status: HTTPStatus = HTTPStatus.OK, **values: object) -> Answer:
    content = _templates().get_template(template).render(status=status, **values).encode()
    return Answer(content=content, content_type=HTML, status=status)


def _json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(content=json.dumps(value, indent=1).encode(), content_type=JSON, status=status)


def _error(status: HTTPStatus, message: str, as_json: bool) -> Answer:
    return _json({"error": message}, status) if as_json else _page("error.html.j2", status, message=message)


@lru_cache(maxsize=1)
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(loader=PackageLoader("service.web"), autoescape=True, undefined=StrictUndefined)
    templates.globals.update(refresh_s=REFRESH_S, warnings=WARNINGS, share=_share, counts=outcome_counts)
    templates.filters.update(duration=duration, event_line=event_line, page=_page_of, rate=rate, time_left=time_left)
    return templates


def _page_of(status: StudyStatus) -> str:
    """The path of a study's page. It ends in the study's directory, which may have another name than the study."""
    return f"/studies/{quote(_directory(status))}"


def _directory(status: StudyStatus) -> str:
    """The name of the directory that a study is in."""
    return status.uri.partition("?")[0].rstrip("/").rpartition("/")[2]


def _share(status: StudyStatus, arm: str | None = None) -> float:
    """Runs done of an arm, or of all, in percent."""
    done = status.total_done if arm is None else status.done.get(arm, 0)
    planned = status.total_planned if arm is None else status.planned[arm]
    return 100.0 * done / planned if planned else 0.0
