"""``t1t2 serve``: the studies below a storage root as web pages that only read.

Every page is made from the storage when it is asked for, so the server may run on any machine that sees the storage and
keeps nothing. The same is there as JSON below ``/api``.
"""

from __future__ import annotations

import json
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from service.cli.display import TOLD_EVENTS, WARNINGS, duration, event_line, outcome_counts, rate
from service.errors import StorageError, StudyError, StudyNotFoundError
from service.records.events import Event, read_events
from service.records.progress import StudyStatus, list_studies, read_status, study_uri
from service.storage.files import open_storage

if TYPE_CHECKING:
    from jinja2 import Environment

REFRESH_S = 5
EVENTS_SHOWN = 20
SEGMENTS_READ = 2  # of the event log, from its end: enough for the latest, whatever the study's size
HTML, JSON = "text/html; charset=utf-8", "application/json"
# Pages carry their own style and nothing else; a report also its pictures and its script.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
REPORT_POLICY = f"{PAGE_POLICY}; script-src 'unsafe-inline'; img-src data:; font-src data:"
Answer = tuple[HTTPStatus, str, bytes]


def make_server(storage: str, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the studies below ``storage`` that listens on ``host:port`` (port 0: any free one).

    Raises:
        StudyError: the address cannot be had, or the storage cannot be opened.
    """
    list_studies(storage)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, content = respond(storage, self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            is_report = self.path.endswith("/report.html")
            self.send_header("Content-Security-Policy", REPORT_POLICY if is_report else PAGE_POLICY)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the base class's name
            """Say nothing of each request."""

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise StudyError(f"--host {host} --port {port}: must be a free address of this machine ({error})") from None


def respond(storage: str, path: str) -> Answer:
    """The answer to a request for ``path``."""
    parts = [unquote(part) for part in urlsplit(path).path.split("/") if part]
    as_json = parts[:1] == ["api"]
    try:
        match parts:
            case []:
                return _page("studies.html.j2", storage=storage, studies=list_studies(storage))
            case ["studies", name]:
                return _study_page(study_uri(storage, name))
            case ["studies", name, "report.html"]:
                return HTTPStatus.OK, HTML, open_storage(study_uri(storage, name)).read("report.html")
            case ["api", "studies"]:
                return _json(HTTPStatus.OK, [study.to_dict() for study in list_studies(storage)])
            case ["api", "studies", name]:
                return _json(HTTPStatus.OK, read_status(study_uri(storage, name)).to_dict())
            case _:
                return _error(HTTPStatus.NOT_FOUND, f"{path}: there is no such page", as_json)
    except (StudyNotFoundError, FileNotFoundError) as error:
        return _error(HTTPStatus.NOT_FOUND, str(error), as_json)
    except StudyError as error:  # a name that is none, a damaged or a newer study
        return _error(HTTPStatus.BAD_REQUEST, str(error), as_json)
    except StorageError as error:
        return _error(HTTPStatus.BAD_GATEWAY, str(error), as_json)


def latest_events(uri: str) -> list[Event]:
    """The latest events worth telling, newest first."""
    told = [event for event in read_events(uri, last_segments=SEGMENTS_READ) if event.kind in TOLD_EVENTS]
    return told[: -EVENTS_SHOWN - 1 : -1]


def _study_page(uri: str) -> Answer:
    status = read_status(uri)
    has_report = open_storage(uri).exists("report.html")
    return _page("study.html.j2", study=status, events=latest_events(uri), has_report=has_report)


def _page(template: str, **values: object) -> Answer:
    return HTTPStatus.OK, HTML, _templates().get_template(template).render(**values).encode()


def _json(status: HTTPStatus, value: object) -> Answer:
    return status, JSON, json.dumps(value, indent=1).encode()


def _error(status: HTTPStatus, message: str, as_json: bool) -> Answer:
    if as_json:
        return _json(status, {"error": message})
    return status, HTML, _templates().get_template("error.html.j2").render(status=status, message=message).encode()


@lru_cache(maxsize=1)
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(loader=PackageLoader("service.web"), autoescape=True, undefined=StrictUndefined)
    templates.globals.update(refresh_s=REFRESH_S, warnings=WARNINGS, share=_share, counts=outcome_counts)
    templates.filters.update(duration=duration, rate=rate, event_line=event_line, page=_page_of)
    return templates


def _page_of(status: StudyStatus) -> str:
    """The path of a study's page: by its directory, whose name may be another than the study's."""
    return f"/studies/{quote(status.uri.partition('?')[0].rstrip('/').rpartition('/')[2])}"


def _share(status: StudyStatus, arm: str | None = None) -> float:
    """Runs done of an arm or of all, in percent."""
    done, planned = (
        (status.total_done, status.total_planned) if arm is None else (status.done.get(arm, 0), status.planned[arm])
    )
    return 100.0 * done / planned if planned else 0.0
