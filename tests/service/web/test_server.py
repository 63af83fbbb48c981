import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from service.cli.app import main
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
