import json
import sys
from pathlib import Path

import pytest

from service.cli import checks as doctor
from service.cli.app import main


def install(site: Path, name: str, requires: list[str], packages: list[str]) -> None:
    """Put the metadata of a distribution into ``site``, as pip leaves it there."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    lines = [f"Requires-Dist: {line}" for line in requires]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *lines, ""]))
    (info / "top_level.txt").write_text("\n".join(packages))
    (info / "RECORD").write_text("")


def test_this_environment_is_fine() -> None:
    assert doctor.check_python().status == "ok"
    check = doctor.check_packages()
    assert check.status == "ok", check
    assert check.found.startswith("t1t2-study ")


def test_missing_and_outdated_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    fine = ["pandas>=1", "absent-extra; extra == 'x'", "absent-system; sys_platform == 'vms'"]
    requires = ["numpy>=999", "no-such-package", *fine]
    install(tmp_path, "needs-much", requires, [])
    unmet = list(doctor._unmet("needs-much"))
    assert len(unmet) == 2
    assert unmet[0].startswith("numpy is ")
    assert unmet[0].endswith("wanted >=999")
    assert unmet[1] == "no-such-package is not installed"


def test_a_stranger_that_holds_our_package_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, "service", [], ["service"])  # PyPI has such a distribution
    check = doctor.check_packages()
    assert check.status == "failed"
    assert "service is of " in check.found
    assert "uninstall" in check.repair


def test_disk(tmp_path: Path) -> None:
    check = doctor.check_disk(tmp_path / "not" / "there" / "yet")
    assert check.status in ("ok", "warning")  # a full disk is only a warning
    assert check.found.startswith(f"{tmp_path} is writable, ")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    check = doctor.check_disk(tmp_path / "file" / "studies")
    assert check.status == "failed"
    assert "--out" in check.repair


def test_data() -> None:
    check = doctor.check_data("data", {"name": "digits", "t1_size": 100, "t2_size": 50, "test_size": 25})
    assert (check.status, check.found) == ("ok", "digits: 100 T1 + 50 T2 + 25 test examples of 10 classes")
    check = doctor.check_data("data", {"name": "mnist", "root": "/no/such/directory"})
    assert check.status == "failed"
    assert check.found.startswith("data.root = '/no/such/directory': ")


def test_a_token_file_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/no/such/file")
    check = doctor.check_ray()
    assert check.status == "failed"
    assert "RAY_AUTH_TOKEN_PATH = '/no/such/file'" in check.found


def test_a_probe_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._probe("print('chatter'); print('{\"a\": 1}')") == {"a": 1}
    assert doctor._probe("import no_such_module") == "ModuleNotFoundError: No module named 'no_such_module'"
    assert doctor._probe("import os, signal; os.kill(os.getpid(), signal.SIGKILL)") == "ended with code -9"
    monkeypatch.setattr(doctor, "PROBE_LIMIT_S", 0.5)
    assert doctor._probe("import time; time.sleep(600)") == "no answer within 0 s"


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
