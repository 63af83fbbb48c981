"""A server of another tool, on loopback, for as long as a test asks it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

STARTS_S = 120.0  # at most, on a busy machine


@contextmanager
def serving(program: str, *words: str) -> Iterator[Callable[..., Any]]:
    """Run Python's ``program`` with ``words`` and a free port; gives what asks it for a path and returns its answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", program, *words, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(path: str, body: Any = None) -> Any:
        """The JSON that the server answers, once it has started."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", content, {"Content-Type": "application/json"}
        )
        until = time.monotonic() + STARTS_S
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    return json.load(response)
            except urllib.error.URLError as error:
                if (
                    not isinstance(error.reason, ConnectionError)
                    or server.poll() is not None
                    or time.monotonic() > until
                ):
                    raise
                time.sleep(0.1)

    try:
        yield ask
    finally:
        server.terminate()
        server.wait(30)
