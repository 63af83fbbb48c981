"""The HTTP server of ``t1t2 serve``, which answers each request by :func:`service.web.routes.respond`."""

from __future__ import annotations

import logging
import socket
import sys
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Timer

from service.errors import StudyError
from service.records.progress import list_studies
from service.web.links import check_root
from service.web.routes import HTML, Answer, respond
from trainers.errors import shortened

log = logging.getLogger(__name__)
SILENCE_S = 30.0  # after which a connection on which nothing moves is closed
REQUEST_S = 60.0  # within which a request must have come whole, however it trickles


class Server(ThreadingHTTPServer):
    """Says in one line, without a traceback, what goes wrong with a connection."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Called with an exception at hand. A reader that has gone away is no news."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            log.warning("request of %s: %s: %s", client_address, type(error).__name__, error)


def make_server(
    storage: str, host: str, port: int, *, silence_s: float = SILENCE_S, request_s: float = REQUEST_S
) -> ThreadingHTTPServer:
    """A server of the studies below ``storage`` that listens on ``host:port`` (port 0: any free one).

    Raises :class:`service.StudyError` if the address cannot be had, or the storage is not there or cannot be opened.
    """
    check_root(storage)
    list_studies(storage)

    class Handler(BaseHTTPRequestHandler):
        timeout = silence_s  # the base class gives it to the socket

        def setup(self) -> None:
            super().setup()
            self._late = Timer(request_s, _close, [self.connection])
            self._late.daemon = True
            self._late.start()

        def finish(self) -> None:
            self._late.cancel()
            super().finish()

        def do_GET(self) -> None:
            self._late.cancel()
            answer = _answer(storage, self.path)
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
        return Server((host, port), Handler)
    except (OSError, OverflowError) as error:
        place = f"--host {shortened(host)} --port {port}"
        raise StudyError(f"{place}: must be a free address of this machine ({error})") from None


def _answer(storage: str, path: str) -> Answer:
    """The answer to a request, whatever goes wrong: nobody is shown a traceback."""
    try:
        return respond(storage, path)
    except Exception as error:
        log.warning("%s: %s: %s", shortened(path), type(error).__name__, error)
        words = b"<!doctype html><title>error</title>The page could not be made; the server's terminal says why."
        return Answer(content=words, content_type=HTML, status=HTTPStatus.INTERNAL_SERVER_ERROR)


def _close(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)
