import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path

import pytest

from service.cli.app import main
from service.web.server import _answer, make_server
from tests.service.toy_studies import run_toy

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    run_toy(root / "fine", name="another-name", configurations=1)
    run_toy(root / "poisoned", name="poisoned", trainer="tests.service.toy:failing", configurations=2)
    (root / "fine" / "report.html").write_text("<!doctype html><title>the report</title>")
    (root / "secret.txt").write_text("secret")
    return root


@pytest.fixture(scope="module")
def url(storage: Path) -> Iterator[str]:
    """`t1t2 serve` in a process of its own."""
    command = [sys.executable, "-m", "service.cli", "serve", str(storage), "--port", "0", "--json"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    head = "".join(iter(server.stdout.readline, "}\n")) + "}"
    yield str(json.loads(head)["url"]).rstrip("/")
    server.send_signal(signal.SIGINT)
    _, err = server.communicate(timeout=120)
    assert (server.returncode, err) == (0, "")


class Words(HTMLParser):
    """The text of a page, and its links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.text += f" {data.strip()}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for key, value in attrs if key == "href"]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return str(reply.read().decode())


def test_the_first_page_lists_the_studies_and_leads_to_them(url: str) -> None:
    page = Words(get(f"{url}/"))
    assert page.links == ["/studies/fine", "/studies/poisoned"]
    assert "another-name completed 22 / 22 0 0" in " ".join(page.text.split())
    study = Words(get(url + page.links[1]))
    text = " ".join(study.text.split())
    assert "poisoned completed" in text
    assert "run failed: " in text
    assert "/studies/poisoned/report.html" not in study.links
    assert Words(get(f"{url}/studies/fine")).links == ["/", "/studies/fine/report.html"]
    assert get(f"{url}/studies/fine/report.html") == "<!doctype html><title>the report</title>"


def test_the_same_as_json(url: str, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(storage), "--json"]) == 0
    assert json.loads(get(f"{url}/api/studies")) == json.loads(capsys.readouterr().out)
    assert json.loads(get(f"{url}/api/studies/fine"))["name"] == "another-name"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/nothing", 404),
        ("/studies/absent", 404),
        ("/api/studies/absent", 404),
        ("/studies/poisoned/report.html", 404),
        ("/studies/fine/study.json", 404),
        ("/studies/%2e%2e/report.html", 400),
        ("/studies/..%2fsecret.txt", 400),
        ("/api/studies/..%2f..%2fetc", 400),
        ("/secret.txt", 404),
        ("/studies/%3Cscript%3E", 400),
    ],
)
def test_other_paths_are_errors(url: str, path: str, code: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url + path)
    with caught.value as answer:
        assert answer.code == code
        text = answer.read().decode()
    assert "secret\n" not in text
    assert "<script" not in text
    assert ("error" in json.loads(text)) if path.startswith("/api") else text.startswith("<!doctype html>")


def test_pages_run_no_script_and_are_not_written_to(url: str) -> None:
    with urllib.request.urlopen(f"{url}/", timeout=30) as reply:
        assert reply.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(f"{url}/studies/fine", data=b"state=cancelled", timeout=30)


def test_an_address_that_is_taken(url: str, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = url.rpartition(":")[2]
    assert main(["serve", str(storage), "--port", port]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --host 127.0.0.1 --port {port}: must be a free address of this machine (")


def talk(address: tuple[str, int], request: bytes, seconds: float = 30.0) -> bytes:
    """What a server says to these bytes until it closes the connection."""
    with socket.create_connection(address, timeout=seconds) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("request_line", "codes"),
    [
        (b"GET http://[ HTTP/1.0", {400}),
        (b"GET /studies/fine%00 HTTP/1.0", {400}),
        (b"GET /studies/fine%2f..%2f..%2fsecret.txt HTTP/1.0", {400}),
        (b"GET /studies/../../secret.txt HTTP/1.0", {404}),
        (b"GET /%ff%fe/%c0%ae HTTP/1.0", {404}),
        (b"GET /studies/\xff\x00 HTTP/1.0", {400}),
        (b"GET /" + b"a" * 60_000 + b" HTTP/1.0", {404}),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.0", {414}),
        (b"GET /" + b"/a" * 20_000 + b" HTTP/1.0", {404}),
        (b"\x00\x01\x02", {400}),
        (b"GET", {400}),
        (b"GET / HTTP/9.9", {505}),
        (b"GET / HTTP/1.0\r\n" + b"a: b\r\n" * 200, {431}),
    ],
)  # the fixture's end says that nothing was printed: no traceback
def test_malformed_requests_are_told_so(url: str, request_line: bytes, codes: set[int]) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    answer = talk((host, int(port)), request_line + b"\r\n\r\n")
    codes_found = {int(word) for word in answer[:400].split() if len(word) == 3 and word.isdigit()}
    assert codes_found & codes
    assert b"secret\n" not in answer
    assert b"Traceback" not in answer


@pytest.mark.parametrize("limits", [{"silence_s": 0.3}, {"request_s": 0.3}])
def test_a_connection_that_says_nothing_is_closed(storage: Path, limits: dict[str, float]) -> None:
    with make_server(str(storage), "127.0.0.1", 0, **limits) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            start = time.monotonic()
            assert talk(server.server_address[:2], b"GET / HT") == b""  # type: ignore[arg-type]
            assert time.monotonic() - start < 20
        finally:
            server.shutdown()
            thread.join()


def test_a_page_that_cannot_be_made_is_no_traceback(
    storage: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.web.server.respond", lambda *_: 1 / 0)
    answer = _answer(str(storage), "/here")
    assert answer.status == HTTPStatus.INTERNAL_SERVER_ERROR
    assert caplog.messages == ["/here: ZeroDivisionError: division by zero"]
