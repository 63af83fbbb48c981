"""Studies on a real Ray of this machine: the same results whoever works, whatever dies."""

from __future__ import annotations

import os
import signal
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray

from service import ResourceError, StudyError, StudySpec, read_status, run_study
from service.executors.ray_actors import RayExecutor
from service.records.events import Event
from service.spec.execution import ExecutionConfig
from service.storage.files import open_storage
from service.storage.lease_record import is_held
from tests.service.drive import start_driver
from tests.service.executors.conformance import ProcessConformance
from tests.service.studies import assert_complete, assert_same_results, run_serially, table, toy_spec
from tests.service.tickets import Tickets


def digits_spec(**values: Any) -> StudySpec:
    """Real trainings of the 8×8 digits, a fraction of a second each."""
    return StudySpec.from_dict(
        {
            "name": "digits",
            "seed": 3,
            "configurations": 2,
            "arms": ["initial", "online", "rerun", "grid"],
            "models": [{"hidden": [16]}, {"hidden": [8, 8]}],
            "inner": {"steps": 60},
            "outer": {"every": 5},
            "record_every": 20,
            "grid": {"points": {"log10_l2": 2}, "replicates": 1},
        }
        | values
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two CPUs, shared by the tests of this file that do not end Ray themselves; the place where their workers meet."""
    place = tmp_path_factory.mktemp("meeting")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TOY_MEETING", str(place))
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
        yield place
        ray.shutdown()


@pytest.mark.usefixtures("cluster")
class TestRayExecutor(ProcessConformance):
    @pytest.fixture
    def executor(self) -> RayExecutor:
        return RayExecutor(ExecutionConfig(actors=2))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of real trainings in one process."""
    out = tmp_path_factory.mktemp("digits") / "serial"
    run_serially(digits_spec(), out)
    return out


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("actors", [1, 2])
def test_results_do_not_depend_on_the_workers(digits: Path, tmp_path: Path, actors: int) -> None:
    status = run_study(digits_spec(execution={"actors": actors}), tmp_path / "study")
    assert status.state == "completed"
    assert_complete(tmp_path / "study", digits_spec())
    assert_same_results(tmp_path / "study", digits)
    assert table(tmp_path / "study", "attempts")["pid"].nunique() <= actors, "one start an actor, not a run"


def test_two_actors_train_at_the_same_time(cluster: Path, tmp_path: Path) -> None:
    spec = toy_spec(trainer="tests.service.toy:meeting", execution={"actors": 2, "failure_retries": 0})
    status = run_study(spec, tmp_path / "study")
    assert (status.completed, status.failed) == (42, 0)
    workers = {path.name for path in cluster.iterdir()}
    assert len(workers) == 2
    assert set(table(tmp_path / "study", "attempts")["pid"].astype(str)) == workers


@pytest.mark.usefixtures("cluster")
def test_packs_give_the_results_of_single_runs(digits: Path, tmp_path: Path) -> None:
    run_study(digits_spec(execution={"runs_per_actor": 2}), tmp_path / "study")
    assert_complete(tmp_path / "study", digits_spec())
    packed, single = table(tmp_path / "study"), table(digits)
    numbers = [name for name in single.select_dtypes("number") if name not in ("train_time_s", "attempt")]
    np.testing.assert_allclose(packed[numbers], single[numbers], rtol=1e-3)
    pd.testing.assert_series_equal(packed["run_id"], single["run_id"])


@pytest.mark.parametrize("loss_retries", [0, 1])
@pytest.mark.usefixtures("cluster")
def test_a_run_that_kills_its_worker_spoils_no_other(tmp_path: Path, loss_retries: int) -> None:
    spec = toy_spec(
        trainer="tests.service.toy:deadly",
        seed=1,
        configurations=4,
        models=[{"hidden": [8]}],
        arms=["initial", "online", "rerun"],
        execution={"actors": 2, "loss_retries": loss_retries},
    )
    status = run_study(spec, tmp_path / "study")
    runs = table(tmp_path / "study")
    poisoned = runs["seed"] % 8 == 0
    assert status.state == "completed"
    assert poisoned.sum() == 3, "one configuration"
    assert (runs["status"] == np.where(poisoned, "failed", "completed")).all()
    assert runs["error"].dropna().str.contains(f"lost {loss_retries + 1} times|its online run failed").all()


@pytest.mark.usefixtures("cluster")
def test_a_gpu_where_there_is_none_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as error:
        run_study(toy_spec(execution={"gpus_per_actor": 0.5}), tmp_path / "study")
    assert "an actor needs 1 CPU, 0.5 GPU, and no node has that" in str(error.value)
    assert "2 CPU, 0 GPU" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_actors_that_cannot_start_end_the_study_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = trainer_of_actors(tmp_path, monkeypatch, "raise ImportError('not on this node')")
    spec = toy_spec(trainer=f"{module}:train", execution={"actors": 1})
    # A Ray that an earlier test has started does not even find the module.
    with pytest.raises(StudyError, match=r"no actor starts: .*cannot be imported"):
        run_study(spec, tmp_path / "study")


def trainer_of_actors(place: Path, monkeypatch: pytest.MonkeyPatch, statement: str) -> str:
    """A module with a toy trainer that does something in actors alone as it is imported; its name."""
    name = f"in_actors_{zlib.crc32(statement.encode())}"
    (place / f"{name}.py").write_text(
        "import os, sys, threading\n"
        "from tests.service.toy import train\n"
        "if 'ray' in sys.modules and str(os.getpid()) != os.environ['TOY_DRIVER']:\n"
        f"    {statement}\n"
    )
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", str(place), prepend=os.pathsep)
    monkeypatch.setenv("TOY_DRIVER", str(os.getpid()))
    return name


@pytest.mark.slow
def test_actors_that_hang_are_noticed_and_their_runs_are_trained_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process is stopped, another one's training waits for ever; each once."""
    run_serially(toy_spec(), tmp_path / "calm")
    hangs, out = tmp_path / "hangs", tmp_path / "study"
    hangs.mkdir()
    monkeypatch.setenv("TOY_HANGS", str(hangs))
    for way in ("stopped", "waits"):
        (hangs / way).touch()
    spec = toy_spec(trainer="tests.service.toy:hanging", execution={"actors": 2, "hung_after_s": 6.0})
    told: list[Event] = []
    assert run_study(spec, out, on_event=told.append).state == "completed"
    hung = {int(path.name.rpartition("-")[2]) for path in hangs.iterdir()}
    assert len(hung) == 2
    assert_same_results(out, tmp_path / "calm", ids=False)
    attempts = table(out, "attempts")
    assert (attempts[attempts["outcome"] == "completed"].groupby("run_id").size() == 1).all(), "none is counted twice"
    lost = attempts[attempts["outcome"] == "lost"]
    assert set(lost["pid"]) == hung
    assert lost["error"].str.fullmatch(r"hung: no sign of life for \d+ s").all()
    assert {event.fields["pid"] for event in told if event.kind == "actor_lost"} == hung
    assert not any(alive(pid) for pid in hung), "Ray has ended them, and their CPUs are free"


@pytest.mark.slow
def test_an_actor_that_hangs_while_it_loads_ends_the_study_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = trainer_of_actors(tmp_path, monkeypatch, "threading.Event().wait()")
    spec = toy_spec(trainer=f"{module}:train", execution={"actors": 1, "load_timeout_s": 3.0})
    with pytest.raises(StudyError, match=r"no actor starts: hung: no sign of life for \d+ s"):
        run_study(spec, tmp_path / "study")


@pytest.mark.slow
def test_a_killed_driver_is_resumed_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    spec = toy_spec(trainer="tests.service.toy:ticketed", execution={"actors": 2})
    run_serially(toy_spec(), tmp_path / "calm")
    out, tickets = tmp_path / "study", Tickets(tmp_path / "tickets")
    tickets.give(2)
    driver = start_driver(spec, out, tmp_path, **tickets.environment)
    wait_for(lambda: list(out.glob("ledger/runs/*.parquet")), driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert read_status(str(out)).state == "interrupted"
    tickets.open()
    driver = start_driver(spec, out, tmp_path, **tickets.environment)
    assert driver.wait(120) == 0, (tmp_path / "driver.log").read_text()
    assert_same_results(out, tmp_path / "calm", ids=False)
    runs, attempts = table(out), table(out, "attempts")
    assert (attempts[attempts["outcome"] == "completed"].groupby("run_id").size() == 1).all()
    lost = attempts[attempts["outcome"] == "lost"]
    assert len(lost) > 0
    assert (runs.set_index("run_id")["attempt"][lost["run_id"]] == 2).all()


@pytest.mark.slow
def test_an_interrupted_driver_flushes_and_can_be_resumed(tmp_path: Path) -> None:
    spec = toy_spec(trainer="tests.service.toy:ticketed", execution={"actors": 2})
    out, tickets = tmp_path / "study", Tickets(tmp_path / "tickets")
    tickets.give(2)
    driver = start_driver(spec, out, tmp_path, **tickets.environment)
    wait_for(lambda: list(out.glob("ledger/runs/*.parquet")), driver)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(60) == 0, (tmp_path / "driver.log").read_text()
    status = read_status(str(out))
    assert status.state == "interrupted"
    assert 0 < status.total_done < status.total_planned
    assert not is_held(open_storage(out))
    tickets.open()
    driver = start_driver(spec, out, tmp_path, **tickets.environment)
    assert driver.wait(120) == 0, (tmp_path / "driver.log").read_text()
    assert_complete(out, spec)


def alive(pid: int) -> bool:
    """Whether the process runs, or is stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition: Any, driver: Any, limit_s: float = 120.0) -> None:
    """Until ``condition()``, as long as the driver lives."""
    end = time.monotonic() + limit_s
    while not condition():
        assert driver.poll() is None, "the driver has ended"
        assert time.monotonic() < end
        time.sleep(0.1)
