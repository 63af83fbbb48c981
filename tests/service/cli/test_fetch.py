"""`t1t2 fetch`, from a server on loopback."""

import json
from pathlib import Path

import pytest

from service import load_spec
from service.cli.app import main
from service.driver.run import check_data
from tests.trainers.data import test_fetch as loopback
from tests.trainers.data.test_fetch import CONTENT, FIRST, Server

server, small_pins = loopback.server, loopback.small_pins


@pytest.mark.usefixtures("small_pins")
def test_what_is_fetched_is_what_the_spec_that_it_prints_finds(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("T1T2_MIRROR", server.url)
    assert main(["fetch", "mnist"]) == 0
    told, lines = capsys.readouterr().out.split("in a spec:\n")
    assert told == "mnist: 4 files in data/MNIST/raw\n"
    sizes = "t1_size = 30\nt2_size = 10\ntest_size = 20\n[inner]\nbatch_size = 10\n[outer]\nbatch_size = 10\n"
    (tmp_path / "spec.toml").write_text(f'name = "fetched"\n{lines}{sizes}')
    spec = load_spec(tmp_path / "spec.toml")
    assert spec.data.root == str(tmp_path / "data")
    assert check_data(spec)
    assert main(["fetch", "mnist", "--root", str(tmp_path / "data"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": "mnist",
        "root": str(tmp_path / "data"),
        "folder": str(tmp_path / "data" / "MNIST" / "raw"),
        "files": sorted(CONTENT),
    }
    assert len(server.asked) == len(CONTENT), "nothing is fetched twice"


def test_bad_input_is_one_line(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for words, message in {
        ("cifar10",): "error: data set 'cifar10': must be one of mnist, fashion_mnist",
        ("mnist", "--mirror", "ftp://x"): "error: mirror 'ftp://x'",
        ("mnist", "--root", str(tmp_path / "file"), "--mirror", server.url): f"error: {tmp_path}/file",
    }.items():
        assert main(["fetch", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith(message)
        assert len(error.splitlines()) == 1


def test_a_download_that_fails_names_file_and_server(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "fashion_mnist", "--root", str(tmp_path), "--mirror", server.url]) == 1
    error = capsys.readouterr().err
    assert f"error: cannot fetch {FIRST}" in error
    assert f"{server.url}/fashion_mnist/{FIRST}: 404" in error
