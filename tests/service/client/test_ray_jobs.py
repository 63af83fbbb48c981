import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ray.job_submission import JobSubmissionClient

from service.client.ray_jobs import auth_token, check_alive, connect, dashboard_url, find_driver, submit_driver
from service.errors import StudyError
from tests.service.ray_head import free_port, ray_head

TOKEN = "the-token-of-this-cluster-0123456789"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without a token, and an environment that says nothing about clusters."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_token_is_the_variable_then_the_named_file_then_the_default_file(home: Path) -> None:
    (home / "named").write_text("named\n")
    environ = {"HOME": str(home)}
    assert auth_token(environ) is None
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("default\n")
    assert auth_token(environ) == "default"
    environ["RAY_AUTH_TOKEN_PATH"] = str(home / "named")
    assert auth_token(environ) == "named"
    environ["RAY_AUTH_TOKEN"] = " variable "
    assert auth_token(environ) == "variable"


def test_a_token_file_that_is_named_must_exist(home: Path) -> None:
    with pytest.raises(StudyError, match=r"RAY_AUTH_TOKEN_PATH = '.*missing': must be a readable file"):
        auth_token({"RAY_AUTH_TOKEN_PATH": str(home / "missing")})


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("head", "http://head:8265"),
        ("head:9000", "http://head:9000"),
        ("https://ray.net/", "https://ray.net:443"),
        ("http://10.0.0.1:8265/prefix/", "http://10.0.0.1:8265/prefix"),
        ("http://[::1]:8265", "http://[::1]:8265"),
    ],
)
def test_addresses_are_completed(address: str, url: str) -> None:
    assert dashboard_url(address) == url


@pytest.mark.parametrize(
    "address", ["", "auto", "ray://head:10001", "http://", "http://head:port", "ftp://head", "head:99999"]
)
def test_what_is_no_dashboard_address_is_refused(address: str) -> None:
    with pytest.raises(StudyError, match=r"--address '.*': must be the dashboard's address"):
        dashboard_url(address)


def test_an_address_where_nobody_listens(home: Path) -> None:
    with pytest.raises(StudyError, match=r"must be a reachable Ray dashboard \(.*refused"):
        connect(f"http://127.0.0.1:{free_port()}")


def test_a_host_that_does_not_exist(home: Path) -> None:
    with pytest.raises(StudyError, match=r"must be a reachable Ray dashboard"):
        connect("http://no-such-host.invalid:8265")


@pytest.fixture
def other_server() -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    """A web server that is no Ray: its address, and the list whose last answer it gives."""
    answers: list[tuple[int, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[-1]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", answers
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, b"<html>hello</html>", "is no JSON"),
        (200, b"[]", "names no ray_version"),
        (200, json.dumps({"ray_version": 2}).encode(), "says 2"),
        (404, b"", "HTTP 404"),
        (500, b"oops", "HTTP 500"),
        (401, b"", "asks for a token, and there is none"),
        (403, b"", "refuses the token"),
    ],
)
def test_a_server_that_is_not_ours_to_use(
    home: Path, other_server: tuple[str, list[tuple[int, bytes]]], status: int, body: bytes, message: str
) -> None:
    url, answers = other_server
    answers.append((status, body))
    with pytest.raises(StudyError, match=message):
        connect(url)


def await_end(client: JobSubmissionClient, submission_id: str) -> None:
    while check_alive(client, submission_id):
        time.sleep(0.2)


@pytest.mark.slow
def test_a_cluster_with_a_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = str(home / "study")
    with ray_head(TOKEN) as address:
        with pytest.raises(StudyError, match="asks for a token, and there is none"):
            connect(address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
        with pytest.raises(StudyError, match="refuses the token"):
            connect(address)
        monkeypatch.delenv("RAY_AUTH_TOKEN")
        monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # Ray itself would prefer this one
        (home / "token").write_text(TOKEN + "\n")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
        client = connect(address)

        assert find_driver(client, study, "hash") is None
        first, is_new = submit_driver(client, study, "hash" * 16, name="study")
        assert is_new
        assert first.submission_id == "t1t2-study-hashhash-1"
        with pytest.raises(StudyError, match=r"ended \(FAILED\): .*study"):  # no such study: the driver's own last word
            await_end(client, first.submission_id)
        assert find_driver(client, study, "hash" * 16) is not None
        Path(study).mkdir()
        os.mkfifo(f"{study}/study.json")  # whoever reads it waits: this driver lives until it is killed
        second, is_new = submit_driver(client, study, "hash" * 16, name="study")
        assert (second.submission_id, is_new) == ("t1t2-study-hashhash-2", True)  # a dead driver gets a successor
        third, is_new = submit_driver(client, study, "hash" * 16, name="study")
        assert (third.submission_id, is_new) == (second.submission_id, False)  # a living one is joined
