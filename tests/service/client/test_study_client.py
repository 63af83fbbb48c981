"""Studies on a real cluster: submitted through the Ray Jobs API with a token, steered by their storage."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from service import AnotherStudyError, StudyClient, StudyError, StudySpec
from service.cli.app import main
from service.client.ray_jobs import connect, find_driver
from tests.service.driving import await_status
from tests.service.ray_head import free_port, ray_head
from tests.service.tickets import Tickets
from tests.service.toy_studies import TOY, run_toy, toml

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
TOKEN = "the-token-of-this-cluster-0123456789"
HELD: dict[str, Any] = {
    **TOY,
    "trainer": "tests.service.toy:ticketed",
    "arms": ["initial", "online", "rerun"],
    "models": [{"hidden": [8]}],
    "execution": {"actors": 2, "cpus_per_actor": 0.5},
}
del HELD["grid"]


@pytest.fixture(scope="module")
def cluster_tickets(tmp_path_factory: pytest.TempPathFactory) -> Tickets:
    return Tickets(tmp_path_factory.mktemp("cluster") / "tickets")


@pytest.fixture(scope="module")
def address(cluster_tickets: Tickets) -> Iterator[str]:
    with ray_head(TOKEN, PYTHONPATH=str(ROOT), **cluster_tickets.environment) as url:
        yield url


@pytest.fixture
def tickets(cluster_tickets: Tickets) -> Iterator[Tickets]:
    """What the runs on the cluster wait for; at the end nobody waits."""
    cluster_tickets.close()
    yield cluster_tickets
    cluster_tickets.open()


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with the right token and without any other knowledge of clusters."""
    for name in ("RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)


def write_spec(place: Path, **changes: Any) -> Path:
    place.write_text(toml({**HELD, **changes}))
    return place


def attempts_by_outcome(study: Path) -> dict[str, int]:
    return dict(pd.read_parquet(study / "attempts.parquet")["outcome"].value_counts())


def test_a_study_is_submitted_once_and_goes_on_without_its_client(
    address: str, tickets: Tickets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write_spec(tmp_path / "spec.toml", name="once", configurations=4)
    command = ["submit", str(spec), "--address", address, "--storage", str(tmp_path / "root"), "--json"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["new_study"], first["new_driver"], first["state"]) == (True, True, "running")
    assert first["uri"] == str(tmp_path / "root" / "once")
    assert main(command) == 0  # the same spec again attaches
    again = json.loads(capsys.readouterr().out)
    assert (again["new_study"], again["new_driver"]) == (False, False)

    write_spec(tmp_path / "spec.toml", name="once", configurations=4, seed=8)
    assert main(command) == 2  # another spec of that name
    assert "\n  seed: 8 here, 7 in the study\n" in capsys.readouterr().err

    tickets.open()
    client = StudyClient(address, storage=tmp_path / "root")
    status = client.wait("once", timeout_s=120)
    assert (status.state, status.completed) == ("completed", 12)
    assert [study.name for study in client.list()] == ["once"]
    assert len(client.results("once")) == 12
    assert list(client.results("once", columns=["t2_loss"]).columns) == ["t2_loss"]
    attached = client.submit(StudySpec.from_dict({**HELD, "name": "once", "configurations": 4}))
    assert (attached.new_driver, attached.state) == (False, "completed")  # nothing left to do

    extended = client.submit({**HELD, "name": "once", "configurations": 5})
    assert extended.new_driver
    status = await_status(client.uri("once"), lambda status: status.state == "completed" and status.total_done == 15)
    assert attempts_by_outcome(tmp_path / "root" / "once") == {"completed": 15}


def test_a_killed_driver_is_replaced_and_nothing_is_trained_twice(
    address: str, tickets: Tickets, tmp_path: Path
) -> None:
    client = StudyClient(address, storage=tmp_path)
    tickets.give(2)
    client.submit({**HELD, "name": "killed", "configurations": 6})
    status = await_status(client.uri("killed"), lambda status: status.total_done >= 2)
    os.kill(int(status.driver.rpartition(":")[2]), signal.SIGKILL)
    assert client.wait("killed", timeout_s=60).state == "interrupted"
    tickets.open()
    resumed = client.resume("killed")
    assert resumed.new_driver
    assert client.wait("killed", timeout_s=120).state == "completed"
    assert len(client.results("killed")) == 18
    attempts = pd.read_parquet(tmp_path / "killed" / "attempts.parquet")
    assert list(attempts[attempts["outcome"] == "completed"].groupby("run_id").size()) == [1] * 18
    assert set(attempts["outcome"]) <= {"completed", "lost"}


def test_steering_from_python(address: str, tickets: Tickets, tmp_path: Path) -> None:
    client = StudyClient(address, storage=tmp_path)
    client.submit({**HELD, "name": "steered", "configurations": 6})
    client.pause("steered")
    await_status(client.uri("steered"), lambda status: status.state == "paused")
    tickets.open()
    paused = await_status(client.uri("steered"), lambda status: status.state == "paused" and status.in_flight == 0)
    assert paused.total_done < 18
    tickets.close()
    client.extend("steered", 7)
    resumed = client.resume("steered")
    assert not resumed.new_driver
    tickets.give(1)
    await_status(client.uri("steered"), lambda now: now.planned["online"] == 7 and now.total_done > paused.total_done)
    client.cancel("steered")
    cancelled = client.wait("steered", timeout_s=60)
    assert cancelled.state == "cancelled"
    cluster = connect(address)
    driver = find_driver(cluster, client.uri("steered"), cancelled.study_hash)
    assert driver is not None
    await_end = time.monotonic() + 60
    while driver.alive and time.monotonic() < await_end:
        time.sleep(0.2)
        driver = find_driver(cluster, client.uri("steered"), cancelled.study_hash)
        assert driver is not None
    assert driver.status == "SUCCEEDED"
    assert len(client.results("steered")) == cancelled.total_done
    client.resume("steered")
    with pytest.raises(TimeoutError, match="'steered' is still"):
        client.wait("steered", timeout_s=0.0, every_s=0.0)
    tickets.open()
    assert client.wait("steered", timeout_s=120).total_done == 21


def test_nothing_is_left_of_a_submission_that_is_refused(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_spec(tmp_path / "spec.toml", name="refused")
    (tmp_path / "file").write_text("")
    root = tmp_path / "root"

    def refused(address: str = address, storage: Path = root, spec: Path = spec) -> str:
        assert main(["submit", str(spec), "--address", address, "--storage", str(storage)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
        assert not root.exists()
        return error

    assert "must be a reachable Ray dashboard" in refused(f"http://127.0.0.1:{free_port()}")
    assert "must be the dashboard's address" in refused("ray://127.0.0.1:10001")
    assert str(tmp_path / "file") in refused(storage=tmp_path / "file")
    assert "name = '../x'" in refused(spec=write_spec(tmp_path / "climbs.toml", name="../x"))
    assert "1 GPU, and no node has that" in refused(
        spec=write_spec(tmp_path / "gpu.toml", name="refused", execution={"gpus_per_actor": 1})
    )
    assert "no_such_module" in refused(
        spec=write_spec(tmp_path / "trainer.toml", name="refused", trainer="no_such_module:train")
    )
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    assert "refuses the token" in refused()


def test_modules_of_the_users_travel_to_the_cluster(address: str, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "shipped.py").write_text((ROOT / "tests/service/toy.py").read_text())
    (tmp_path / "code" / "shipped_nets.py").write_text(
        "from torch import nn\n\ndef net(inputs, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    client = StudyClient(address, storage=tmp_path / "root")
    spec = {
        **HELD,
        "name": "shipped",
        "configurations": 1,
        "trainer": "shipped:train",
        "models": [{"name": "shipped_nets:net"}],
    }
    client.submit(spec, working_dir=tmp_path / "code")
    assert client.wait("shipped", timeout_s=120).completed == 3


def test_without_a_cluster_only_the_storage_is_at_hand(tmp_path: Path) -> None:
    run_toy(tmp_path / "toy", configurations=1)
    client = StudyClient(storage=tmp_path)
    assert client.status("toy").state == "completed"
    with pytest.raises(StudyError, match="address: must be the cluster's dashboard"):
        client.submit({**TOY, "name": "new"})
    with pytest.raises(StudyError, match="address: must be the cluster's dashboard"):
        client.resume("toy")
    with pytest.raises(StudyError, match=r"name = '\.\./toy'"):
        client.status("../toy")
    with pytest.raises(AnotherStudyError, match="seed: 9 here, 7 in the study"):
        run_toy(tmp_path / "toy", seed=9)
