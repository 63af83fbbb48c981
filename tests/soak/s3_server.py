"""The S3 server of a soak, a process of its own that can be told to fail: ``python -m tests.soak.s3_server PORT DIR``.

moto's server speaks the protocol and holds the objects in memory; now and then, and when it is told to end, they are
saved as one file in ``DIR``, and the next server of that directory begins with them. Faults come through
``POST /-/fault?kind=…&seconds=…``. Every request that arrives within the time is treated so:

``error500``      answered with an internal error
``hang``          held until the time is over, then carried out, whether or not somebody still waits for the answer
``truncated_get`` the first half of the object is sent, then the connection is closed
``cut_put``       half of what is sent is read, then the connection is closed; nothing is stored
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import S3Backend, s3_backends
from werkzeug.serving import make_server

from tests.service.object_store import Quiet

BUCKET = "soak"
CONTROL = "/-/"  # no bucket has this name
OBJECTS, COMMITS, PORT = "objects.tar", "commits.txt", "port"
SAVE_EVERY_S = 30.0
FAULTS = ("error500", "hang", "truncated_get", "cut_put")
Start = Callable[..., Any]


class FaultyS3:
    """moto's S3 as a WSGI application, with faults that end by themselves, and a list of the study's commits."""

    def __init__(self, directory: Path) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._directory = directory
        self._until = dict.fromkeys(FAULTS, 0.0)  # on the monotonic clock
        self.hit = dict.fromkeys(FAULTS, 0)
        self.changed = False  # since the objects were saved

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Answer a request, as well as the faults of the moment allow."""
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path.startswith(CONTROL):
            return self._control(path, parse_qs(environ["QUERY_STRING"]), start)
        if self._active("hang"):
            time.sleep(max(0.0, self._until["hang"] - time.monotonic()))
        if self._active("error500"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [b"<Error><Code>InternalError</Code><Message>We encountered an internal error</Message></Error>"]
        if method == "PUT" and self._active("cut_put"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
            with suppress(OSError):
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            start("500 Internal Server Error", [])  # which nobody hears
            return []
        if method == "GET" and self._active("truncated_get", count=False):
            return self._truncated(environ, start)
        return self._carried_out(environ, start)

    def _active(self, fault: str, count: bool = True) -> bool:
        if time.monotonic() >= self._until[fault]:
            return False
        self.hit[fault] += count
        return True

    def _control(self, path: str, query: dict[str, list[str]], start: Start) -> list[bytes]:
        """``fault`` begins one, ``hits`` says how many requests each has met, ``object/KEY`` gives an object."""
        if path.startswith(f"{CONTROL}object/"):
            found = _backend().get_object(BUCKET, path.removeprefix(f"{CONTROL}object/"))
            start("200 OK" if found else "404 Not Found", [("Content-Type", "application/octet-stream")])
            return [found.value if found else b""]
        if path == f"{CONTROL}fault":
            self._until[query["kind"][0]] = time.monotonic() + float(query["seconds"][0])
        start("200 OK", [("Content-Type", "text/plain")])
        return ["".join(f"{kind} {count}\n" for kind, count in self.hit.items()).encode()]

    def _carried_out(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Let moto answer. A whole shard of the runs, by one PUT or as an upload that is complete, is a commit."""
        query, path = environ["QUERY_STRING"], environ["PATH_INFO"]
        ends = {"PUT": "partNumber" not in query, "POST": "uploadId" in query}.get(environ["REQUEST_METHOD"], False)

        def started(status: str, headers: list[tuple[str, str]], *rest: object) -> Any:
            self.changed |= environ["REQUEST_METHOD"] != "GET"
            is_shard = "/ledger/runs/" in path and path.endswith(".parquet")
            if ends and is_shard and status.startswith("200"):
                with (self._directory / COMMITS).open("a") as file:
                    file.write(f"{time.time():.3f}\n")
            return start(status, headers, *rest)

        return self._app(environ, started)  # type: ignore[no-any-return]

    def _truncated(self, environ: dict[str, Any], start: Start) -> list[bytes]:
        """What moto answers, cut in half; the header still tells the whole length."""
        told: list[Any] = []
        content = b"".join(self._app(environ, lambda *args: told.append(args)))
        is_object = told[0][0].startswith("20") and "list-type" not in environ["QUERY_STRING"] and len(content) > 1
        self.hit["truncated_get"] += is_object
        start(*told[0])
        return [content[: len(content) // 2] if is_object else content]

    def save(self) -> None:
        """All objects as one file, which takes its place when it is whole."""
        if not self.changed:
            return
        self.changed = False
        objects = [(name, key.value) for name, key in _backend().get_bucket(BUCKET).keys.items()]
        unfinished = self._directory / f"{OBJECTS}.new"
        with tarfile.open(unfinished, "w") as archive:
            for name, content in objects:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        unfinished.replace(self._directory / OBJECTS)

    def load(self) -> None:
        """Begin with the objects that the server before has saved."""
        _backend().create_bucket(BUCKET, "us-east-1")
        with suppress(FileNotFoundError), tarfile.open(self._directory / OBJECTS) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                _backend().put_object(BUCKET, member.name, file.read())


def _backend() -> S3Backend:
    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


def main(port: int, directory: Path) -> None:
    """Serve until SIGTERM, or until the process that has started it is gone."""
    store = FaultyS3(directory)
    store.load()
    server = make_server("127.0.0.1", port, store, threaded=True, request_handler=Quiet)
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    unfinished = directory / f"{PORT}.new"
    unfinished.write_text(str(server.server_port))
    unfinished.replace(directory / PORT)
    parent, saved = os.getppid(), time.monotonic()
    while not end.wait(1.0) and os.getppid() == parent:  # nobody is left to end it when the soak is killed
        if time.monotonic() >= saved + SAVE_EVERY_S:
            saved = time.monotonic()
            with suppress(RuntimeError):  # an object has come or gone while they were listed: next time
                store.save()
    server.shutdown()
    store.changed = True
    store.save()
    os._exit(0)  # requests that hang keep no one waiting


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
