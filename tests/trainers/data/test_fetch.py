import gzip
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.trainers.idx import encode_idx, small_mnist
from trainers.config import ConfigError, DataConfig
from trainers.data import fetch as module
from trainers.data.fetch import SHA256, URLS, FetchError, download, fetch, main
from trainers.data.split import load_split

CONTENT = {f"{name}.gz": gzip.compress(encode_idx(x), mtime=0) for name, x in small_mnist().items()}
DIGESTS = {name: hashlib.sha256(raw).hexdigest() for name, raw in CONTENT.items()}
FIRST = next(iter(CONTENT))


class Server(ThreadingHTTPServer):
    """A loopback server of ``pages``; a path in ``half`` breaks off in the middle, one in ``stalled`` never goes on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, bytes] = {}
        self.half: set[str] = set()
        self.stalled: set[str] = set()
        self.half_sent, self.released = threading.Event(), threading.Event()
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.path)
        page = server.pages.get(self.path)
        if page is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        cut = self.path in server.half | server.stalled
        self.wfile.write(page[: len(page) // 2] if cut else page)
        self.wfile.flush()
        if self.path in server.stalled:
            server.half_sent.set()
            server.released.wait()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(module.MIRROR_VARIABLE, raising=False)
    with Server() as server:
        server.pages = {f"/mnist/{name}": raw for name, raw in CONTENT.items()}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def small_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pin the SHA-256 of small files instead of the real ones, which no test may download."""
    monkeypatch.setitem(module.SHA256, "mnist", DIGESTS)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("small_pins")
def test_what_is_fetched_can_be_loaded_and_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    server.pages = {f"/mirror/mnist/{name}": raw for name, raw in CONTENT.items()}
    folder = fetch("mnist", tmp_path, mirror=f"{server.url}/mirror/")
    assert folder == tmp_path / "MNIST" / "raw"
    assert files(folder) == CONTENT
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())
    split = load_split(DataConfig("mnist", 30, 10, 20, root=str(tmp_path)))
    assert split.test_x.shape == (20, 1, 4, 3)
    fetch("mnist", tmp_path, mirror=f"{server.url}/mirror")
    assert server.asked == [f"/mirror/mnist/{name}" for name in CONTENT]


def test_a_file_that_is_not_the_pinned_one_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=f"cannot fetch {FIRST}, .*:\n  {server.url}/mnist/{FIRST}: ") as raised:
        fetch("mnist", tmp_path, mirror=server.url)  # the real pins
    assert SHA256["mnist"][FIRST] in str(raised.value)  # expected
    assert DIGESTS[FIRST] in str(raised.value)  # got
    assert files(tmp_path / "MNIST" / "raw") == {}


@pytest.mark.usefixtures("small_pins")
def test_one_flipped_bit_is_noticed(server: Server, tmp_path: Path) -> None:
    page = bytearray(CONTENT[FIRST])
    page[-1] ^= 1
    server.pages[f"/mnist/{FIRST}"] = bytes(page)
    with pytest.raises(FetchError, match=FIRST):
        fetch("mnist", tmp_path, mirror=server.url)
    assert files(tmp_path / "MNIST" / "raw") == {}


def test_a_damaged_file_in_place_is_fetched_again(server: Server, tmp_path: Path) -> None:
    for name, raw in CONTENT.items():
        (tmp_path / name).write_bytes(raw if name != FIRST else raw[:-5])
    download(DIGESTS, [f"{server.url}/mnist"], tmp_path)
    assert files(tmp_path) == CONTENT
    assert server.asked == [f"/mnist/{FIRST}"]


def test_a_missing_file_says_so_for_every_server_asked(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as raised:
        download(DIGESTS, [f"{server.url}/a", f"{server.url}/b"], tmp_path)
    message = str(raised.value)
    assert f"{server.url}/a/{FIRST}: 404" in message
    assert f"{server.url}/b/{FIRST}: 404" in message


def test_a_server_that_is_not_there_says_so(server: Server, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as unused:
        port = unused.server_port
    with pytest.raises(FetchError, match="Connection refused"):
        download(DIGESTS, [f"http://127.0.0.1:{port}"], tmp_path)


def test_the_next_server_is_asked_where_one_fails(server: Server, tmp_path: Path) -> None:
    server.pages[f"/broken/{FIRST}"] = b"<html>welcome to this wireless network</html>"
    download(DIGESTS, [f"{server.url}/broken", f"{server.url}/mnist"], tmp_path)
    assert files(tmp_path) == CONTENT


def test_an_interrupted_transfer_is_not_taken_for_a_file_and_the_next_call_completes(
    server: Server, tmp_path: Path
) -> None:
    third = list(CONTENT)[2]
    server.half = {f"/mnist/{third}"}
    with pytest.raises(FetchError, match=f"cannot fetch {third}, nothing of it kept"):
        download(DIGESTS, [f"{server.url}/mnist"], tmp_path)
    assert files(tmp_path).keys() == set(list(CONTENT)[:2])
    server.half = set()
    server.asked.clear()
    download(DIGESTS, [f"{server.url}/mnist"], tmp_path)
    assert files(tmp_path) == CONTENT
    assert server.asked == [f"/mnist/{name}" for name in list(CONTENT)[2:]]


def test_a_process_killed_in_mid_transfer_leaves_nothing_that_looks_whole(server: Server, tmp_path: Path) -> None:
    server.stalled = {f"/mnist/{FIRST}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "trainers.data.fetch", "mnist", str(tmp_path), "--mirror", server.url],
        cwd=Path(__file__).parents[3],
        stderr=subprocess.DEVNULL,
    )
    assert server.half_sent.wait(60)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    server.released.set()
    folder = tmp_path / "MNIST" / "raw"
    assert not (folder / FIRST).exists()
    server.stalled = set()
    download(DIGESTS, [f"{server.url}/mnist"], folder)
    assert CONTENT.items() <= files(folder).items()


# --- settings and the command ----------------------------------------------------------------------------------------


def test_the_pins_are_of_the_right_form_and_differ() -> None:
    pins = [digest for files in SHA256.values() for digest in files.values()]
    assert len({*pins}) == 8
    assert all(len(bytes.fromhex(pin)) == 32 for pin in pins)
    assert SHA256.keys() == URLS.keys()


@pytest.mark.parametrize(
    ("name", "mirror", "message"),
    [
        ("cifar10", None, "data set 'cifar10': must be one of mnist, fashion_mnist"),
        ("mnist", "ftp://host", "mirror 'ftp://host' .* must begin with http:// or https://"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, name: str, mirror: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fetch(name, tmp_path, mirror)


def test_a_directory_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "MNIST").write_text("a file where a folder must be")
    with pytest.raises(ConfigError, match=f"{tmp_path}/MNIST.*: cannot be written"):
        fetch("mnist", tmp_path, mirror=server.url)


@pytest.mark.usefixtures("small_pins")
def test_the_command_takes_its_mirror_from_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(module.MIRROR_VARIABLE, server.url)
    assert main(["mnist", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"mnist: 4 files in {tmp_path / 'MNIST' / 'raw'}\n"
    assert main(["fashion_mnist", str(tmp_path)]) == 1  # the server has no such folder
    assert "error: cannot fetch train-images-idx3-ubyte.gz" in capsys.readouterr().err
    assert main(["mnist", str(tmp_path), "--mirror", "nonsense"]) == 2
    assert capsys.readouterr().err.startswith("error: mirror 'nonsense'")


def test_the_progress_bar_fills(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.pages["/large"] = np.random.default_rng(0).bytes(300_000)
    digest = hashlib.sha256(server.pages["/large"]).hexdigest()
    download({"large": digest}, [server.url], tmp_path, progress=True)
    shown = capsys.readouterr().err
    shares = [int(share) for share in re.findall(r"\]\s*(\d+)%", shown)]
    assert shares[0] < 50
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert f"[{'#' * 30}] 100% of 300 kB" in shown
    assert os.listdir(tmp_path) == ["large"]
