"""The HTTP server of ``t1t2 serve``, which answers each request by :func:`service.web.routes.respond`."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from service.errors import StudyError
from service.records.progress import list_studies
from service.web.routes import respond
from trainers.errors import shortened


def make_server(storage: str, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the studies below ``storage`` that listens on ``host:port`` (port 0: any free one).

    Raises :class:`service.StudyError` if the address cannot be had, or the storage cannot be opened.
    """
    list_studies(storage)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = respond(storage, self.path)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Security-Policy", answer.content_policy)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.content)

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the base class's name
            """Say nothing of each request."""

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        place = f"--host {shortened(host)} --port {port}"
        raise StudyError(f"{place}: must be a free address of this machine ({error})") from None
