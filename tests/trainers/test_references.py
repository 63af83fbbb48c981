"""What a user names as ``module:attribute`` is found, or one error says which setting, which name and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainers import ConfigError
from trainers.references import resolve


def test_an_attribute_of_a_module_is_found() -> None:
    assert resolve("json:dumps", "models.name") is json.dumps


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("no_such_module:f", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("json:no_such_function", "AttributeError: module 'json' has no attribute 'no_such_function'"),
    ],
)
def test_what_cannot_be_found_is_told_with_its_setting_and_its_reason(reference: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(reference, "models.name")
    assert f"models.name = {reference!r}: cannot be imported ({reason}" in str(caught.value)
    assert "must be 'module:attribute'" in str(caught.value)


@pytest.mark.parametrize(
    "reference", [":", ":f", "json:", "..json:dumps", ".:x", "json", "json.:x", "js on:dumps", "json:du-mps"]
)
def test_what_is_no_reference_is_not_looked_for(reference: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(reference, "models.name")
    assert str(caught.value).startswith(f"models.name = {reference!r}: must be 'module:attribute'")


def test_a_module_that_fails_when_it_is_imported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fails_at_import.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be imported \(ZeroDivisionError: division by zero\)"):
        resolve("fails_at_import:f", "trainer")


def test_a_long_reference_is_quoted_in_part() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("m" * 10_000 + ":f", "models.name")
    assert "(10004 characters)" in str(caught.value)
    assert len(str(caught.value)) < 700
