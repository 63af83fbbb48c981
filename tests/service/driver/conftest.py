"""A study to compare others with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.studies import run_serially, toy_spec


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of toy runs that nothing disturbed."""
    out = tmp_path_factory.mktemp("calm") / "toy"
    run_serially(toy_spec(), out)
    return out
