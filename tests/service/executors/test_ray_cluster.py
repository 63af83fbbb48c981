"""Clusters that cannot be used are one clear error, at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from service import StudyError, run_study
from tests.service.studies import toy_spec


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", r"Ray at 127.0.0.1:1: cannot be used \(.*refused"),
        ("nonsense", r"Ray at nonsense: .*not HOST:PORT"),
        ("ray://127.0.0.1:1", "Ray at ray://127.0.0.1:1: cannot be used"),
    ],
)
def test_an_address_where_nobody_listens(tmp_path: Path, address: str, message: str) -> None:
    assert not ray.is_initialized()
    with pytest.raises(StudyError, match=message):
        run_study(toy_spec(), tmp_path / "study", address=address)
    assert list(tmp_path.iterdir()) == []
