import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.cli.app import main
from service.cli.checks import Check


def test_it_prints_each_check_and_how_to_repair_what_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def examine(*asked: Any) -> Iterator[Check]:
        yield Check("python", "ok", "Python 3.11")
        yield Check("disk", "failed", "/full [red]", "free some space")

    monkeypatch.setattr("service.cli.checks.examine", examine)
    assert main(["doctor"]) == 1
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "ok python: Python 3.11",
        "failed disk: /full [red]",
        "         repair: free some space",
    ]
    assert main(["doctor", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert answer["checks"][1] == {
        "name": "disk",
        "status": "failed",
        "found": "/full [red]",
        "repair": "free some space",
    }


@pytest.mark.slow
def test_the_command_checks_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('name = "x"\n[data]\nname = "mnist"\nroot = "/no/such/directory"\n')
    assert main(["doctor", "--json", "--out", str(tmp_path / "studies")]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"]
    names = [check["name"] for check in answer["checks"]]
    assert names == ["python", "packages", "torch", "ray", "disk", "data", "training"]
    assert sys.executable in answer["checks"][0]["found"]
    assert main(["doctor", "--spec", str(spec)]) == 1
    out = capsys.readouterr().out
    assert "data of the spec: data.root = '/no/such/directory'" in out
    assert "repair: set data.root" in out
    assert "actors of the spec: " in out


def test_a_spec_that_is_none_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('name = "x"\narms = ["nope"]\n')
    assert main(["doctor", "--spec", str(spec)]) == 2
    assert '= "nope": must be' in capsys.readouterr().err
