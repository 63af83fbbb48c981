from pathlib import Path

import pytest

from service.cli import checks


def install(site: Path, name: str, requires: list[str], packages: list[str]) -> None:
    """Put the metadata of a distribution into ``site``, as pip leaves it there."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    lines = [f"Requires-Dist: {line}" for line in requires]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *lines, ""]))
    (info / "top_level.txt").write_text("\n".join(packages))
    (info / "RECORD").write_text("")


def test_this_environment_is_fine() -> None:
    assert checks.check_python().status == "ok"
    check = checks.check_packages()
    assert check.status == "ok", check
    assert check.found.startswith("t1t2-study ")


def test_missing_and_outdated_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    fine = ["pandas>=1", "absent-extra; extra == 'x'", "absent-system; sys_platform == 'vms'"]
    requires = ["numpy>=999", "no-such-package", *fine]
    install(tmp_path, "needs-much", requires, [])
    unmet = list(checks._unmet("needs-much"))
    assert len(unmet) == 2
    assert unmet[0].startswith("numpy is ")
    assert unmet[0].endswith("wanted >=999")
    assert unmet[1] == "no-such-package is not installed"


def test_another_distribution_with_a_package_of_our_name_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, "service", [], ["service"])  # PyPI has such a distribution
    check = checks.check_packages()
    assert check.status == "failed"
    assert "service is of " in check.found
    assert "uninstall" in check.repair


def test_disk(tmp_path: Path) -> None:
    check = checks.check_disk(tmp_path / "not" / "there" / "yet")
    assert check.status in ("ok", "warning")  # a full disk is only a warning
    assert check.found.startswith(f"{tmp_path} is writable, ")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    check = checks.check_disk(tmp_path / "file" / "studies")
    assert check.status == "failed"
    assert "--out" in check.repair


def test_data() -> None:
    check = checks.check_data("data", {"name": "digits", "t1_size": 100, "t2_size": 50, "test_size": 25})
    assert (check.status, check.found) == ("ok", "digits: 100 T1 + 50 T2 + 25 test examples of 10 classes")
    check = checks.check_data("data", {"name": "mnist", "root": "/no/such/directory"})
    assert check.status == "failed"
    assert check.found.startswith("data.root = '/no/such/directory': ")


def test_a_token_file_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/no/such/file")
    check = checks.check_ray()
    assert check.status == "failed"
    assert "RAY_AUTH_TOKEN_PATH = '/no/such/file'" in check.found


def test_a_probe_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.probe("print('chatter'); print('{\"a\": 1}')") == {"a": 1}
    assert checks.probe("import no_such_module") == "ModuleNotFoundError: No module named 'no_such_module'"
    assert checks.probe("import os, signal; os.kill(os.getpid(), signal.SIGKILL)") == "ended with code -9"
    monkeypatch.setattr(checks, "PROBE_LIMIT_S", 0.5)
    assert checks.probe("import time; time.sleep(600)") == "no answer within 0 s"
