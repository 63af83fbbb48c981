"""A Ray cluster of one node as users have it: `ray start --head`, with a dashboard and token authentication."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_LIMIT_S = 120.0


def free_port() -> int:
    """A TCP port that nobody uses on loopback just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def ray_head(token: str, **environment: str) -> Iterator[str]:
    """Start a head node that asks for ``token``; yields the dashboard's address, and ends the node's own processes."""
    port = free_port()
    temp = Path(tempfile.mkdtemp(prefix="t1t2-", dir="/tmp"))  # short: its sockets' paths end at 107 bytes
    # Jobs run `python`: this environment's.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        "--port=0",
        "--num-cpus=2",
        f"--dashboard-port={port}",
        f"--temp-dir={temp}",
        f"--ray-client-server-port={free_port()}",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--dashboard-agent-listen-port=0",
        "--disable-usage-stats",
        "--object-store-memory=100000000",
    ]
    with (temp / "start.log").open("wb") as log:
        node = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=temp,
            start_new_session=True,
            env={**os.environ, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, **environment},
        )
    try:
        _await_dashboard(f"http://127.0.0.1:{port}", token, node, temp / "start.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        node.send_signal(signal.SIGTERM)  # it ends its own processes, and no other cluster's as `ray stop` would
        try:
            node.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()
        shutil.rmtree(temp, ignore_errors=True)


def _await_dashboard(url: str, token: str, node: subprocess.Popen[bytes], log: Path) -> None:
    request = urllib.request.Request(f"{url}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end:
        if node.poll() is not None:
            break
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"Ray did not start:\n{log.read_text()}")
