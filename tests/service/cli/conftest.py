from pathlib import Path

import pytest

from tests.service.tickets import Tickets


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tickets:
    """What the runs of these studies wait for. Their driver looks for requests after each of them."""
    monkeypatch.setattr("service.driver.driver.TICK_S", 0.0)
    found = Tickets(tmp_path / "tickets")
    monkeypatch.setenv("TOY_TICKETS", str(found.directory))
    return found
