"""`t1t2 serve` itself; what it serves is tested with the pages, in tests/service/web."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from service.cli.app import main


class Interrupted:
    """A server that is ended by Ctrl-C as soon as it serves."""

    server_address = ("::1", 8123)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        return

    def serve_forever(self) -> None:
        raise KeyboardInterrupt


def test_it_says_where_it_serves_and_ctrl_c_is_its_good_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("service.web.server.make_server", lambda storage, host, port: Interrupted())
    assert main(["serve", "s3://bucket/studies", "--host", "::1"]) == 0
    assert capsys.readouterr().out == "s3://bucket/studies at http://[::1]:8123/\n"
    assert main(["serve", "here", "--host", "localhost", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"url": "http://localhost:8123/", "storage": "here"}


@pytest.mark.parametrize("options", [["--host", "192.0.2.77", "--port", "0"], ["--port", "99999"]])
def test_an_address_that_cannot_be_had_is_exit_code_2(tmp_path: Path, options: list[str]) -> None:
    assert main(["serve", str(tmp_path), *options]) == 2


def test_a_directory_that_is_missing_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path / "missing"), "--port", "0"]) == 2
    assert "there is no such directory" in capsys.readouterr().err


@pytest.mark.parametrize(("address", "is_told"), [("0.0.0.0", True), ("192.168.1.5", True), ("127.0.0.1", False)])
def test_other_machines_may_read_which_is_said(
    address: str, is_told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Open(Interrupted):
        server_address = (address, 8123)

    monkeypatch.setattr("service.web.server.make_server", lambda *_: Open())
    assert main(["serve", "here", "--host", address]) == 0
    warning = f"warning: whoever reaches {address} may read everything below here: there is no password\n"
    assert capsys.readouterr().err == (warning if is_told else "")
