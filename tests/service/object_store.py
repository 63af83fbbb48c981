"""A real S3-protocol server on loopback that can be told to answer 500."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  # werkzeug's signature
        """Drop it."""


class FlakyS3:
    """The server as a WSGI application. ``failures`` requests, from now on, are answered 500.

    With ``failures_after_delete`` so many are answered 500 after the next object has been deleted.
    """

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self.failures = self.failures_after_delete = 0
        self.refused = 0
        self.url = ""

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        if self.failures > 0:
            self.failures -= 1
            self.refused += 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [b"<Error><Code>InternalError</Code><Message>We encountered an internal error</Message></Error>"]
        if environ["REQUEST_METHOD"] == "DELETE":
            self.failures, self.failures_after_delete = self.failures_after_delete, 0
        return self._app(environ, start)  # type: ignore[no-any-return]

    def uri(self, path: str) -> str:
        """The address of ``path`` (bucket/prefix) on this server."""
        return f"s3://{path}?endpoint_override={self.url.removeprefix('http://')}&scheme=http&region=us-east-1"


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch, bucket: str) -> Iterator[FlakyS3]:
    """Serve one bucket; credentials are in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    store = FlakyS3()
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=Quiet)
    store.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        urllib.request.urlopen(urllib.request.Request(f"{store.url}/moto-api/reset", method="POST")).close()
        filesystem, _ = fs.FileSystem.from_uri(store.uri(bucket) + "&allow_bucket_creation=true")
        filesystem.create_dir(bucket)
        yield store
    finally:
        server.shutdown()
        server.server_close()
