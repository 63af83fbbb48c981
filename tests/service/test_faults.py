"""A study on a real cluster of several raylets, with SIGKILL at seeded moments over actors, nodes and drivers.

Run it alone with ``make test-faults SEED=n``; it prints its tally.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
from ray.cluster_utils import Cluster

from service import StudySpec, read_events, read_status
from tests.service.drive import start_driver
from tests.service.studies import assert_complete, assert_same_results, run_serially, table

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

KILLS = {"actor": 14, "node": 3, "driver": 4}
NODES = 2
NOTICE = pd.Timedelta("15s")  # within which a driver has noticed and recorded a death, however busy the machine


def spec() -> StudySpec:
    """96 real trainings of half a second, a checkpoint every quarter; the last ones wait for the last kill."""
    return StudySpec.from_dict(
        {
            "name": "faults",
            "seed": 11,
            "configurations": 24,
            "arms": ["initial", "online", "rerun", "grid"],
            "models": [{"hidden": [24]}],
            "inner": {"steps": 400},
            "outer": {"every": 5},
            "record_every": 50,
            "grid": {"points": {"log10_l2": 2, "input_noise_std": 2}, "replicates": 6},
            "execution": {"checkpoint_every": 100, "loss_retries": 100},
            "trainer": "tests.service.toy:real",
        }
    )


@dataclass
class Battle:
    """The cluster, the driver, and what has been killed."""

    cluster: Cluster
    directory: Path
    out: Path
    random: random.Random
    nodes: list[Any] = field(default_factory=list)
    driver: subprocess.Popen[bytes] | None = None
    killed: list[dict[str, Any]] = field(default_factory=list)

    def add_node(self) -> None:
        self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20))

    def start_driver(self) -> None:
        self.driver = start_driver(spec(), self.out, self.directory, self.cluster.address)

    def busy_actors(self) -> list[int]:
        """Processes of our nodes that are training."""
        raylets = {str(node.all_processes["raylet"][0].process.pid) for node in self.nodes}
        found = []
        for process in Path("/proc").iterdir():
            with suppress(OSError, IndexError):
                if (process / "cmdline").read_bytes().startswith(b"ray::RayWorker.run"):
                    parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                    if parent in raylets:
                        found.append(int(process.name))
        return sorted(found)

    def wait_for_work(self) -> list[int]:
        """The actors that train, once there is one."""
        end = time.monotonic() + 180
        while not (found := self.busy_actors()):
            assert self.driver is not None
            assert self.driver.poll() is None, "the driver has ended"
            assert time.monotonic() < end, "nobody works"
            time.sleep(0.05)
        return found

    def kill(self, kind: str) -> None:
        """SIGKILL one victim of a kind, and put a new node or driver in its place."""
        assert self.driver is not None
        at, node_id = datetime.now(UTC), None
        if kind == "actor":
            pid = self.random.choice(self.wait_for_work())
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        elif kind == "node":
            node = self.random.choice(self.nodes)
            pid = node.all_processes["raylet"][0].process.pid
            node_id = node.node_id
            self.nodes.remove(node)
            self.cluster.remove_node(node, allow_graceful=False)
            self.add_node()
        else:
            pid, orphans = self.driver.pid, set(self.busy_actors())
            self.driver.kill()
            self.driver.wait()
            self.start_driver()
            end = time.monotonic() + 60
            while orphans & set(self.busy_actors()):  # Ray ends them; the next victim is to be one of the new driver's
                assert time.monotonic() < end, "the dead driver's actors live on"
                time.sleep(0.02)
        self.killed.append({"kind": kind, "pid": pid, "at": at, "node": node_id})


@contextmanager
def battle(directory: Path, seed: int) -> Iterator[Battle]:
    """A head without CPUs and two nodes with one each."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": 80 * 2**20,
            "_system_config": {"health_check_period_ms": 1000, "health_check_failure_threshold": 5},
        },
    )
    fight = Battle(cluster, directory, directory / "study", random.Random(seed))
    try:
        for _ in range(NODES):
            fight.add_node()
        yield fight
    finally:
        if fight.driver is not None and fight.driver.poll() is None:
            fight.driver.kill()
            fight.driver.wait()
        cluster.shutdown()
        ray.shutdown()


def recovery_s(fight: Battle, attempts: pd.DataFrame) -> tuple[float, float]:
    """After the deaths of nodes: the longest time until the driver knew, and until a run lost with one went on."""
    events = [event for event in read_events(str(fight.out)) if event.kind == "node_lost"]
    known = again = 0.0
    for kill in fight.killed:
        told = [e.time for e in events if e.fields["node_id"] == kill["node"]]
        known = max([known, *((datetime.fromisoformat(at) - kill["at"]).total_seconds() for at in told)])
        lost = attempts[(attempts["outcome"] == "lost") & (attempts["node_id"] == (kill["node"] or "none"))]
        for run_id in lost["run_id"]:
            starts = attempts[(attempts["run_id"] == run_id) & (attempts["started_at"] > kill["at"])]["started_at"]
            again = max(again, (starts.min() - kill["at"]).total_seconds())
    return known, again


def test_nothing_is_lost_or_double_whatever_dies(
    tmp_path: Path, fault_seed: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "held"
    monkeypatch.setenv("TOY_HELD", str(held))
    run_serially(spec(), tmp_path / "calm")
    held.touch()  # however quick the machine, there is work until the last kill
    with battle(tmp_path, fault_seed) as fight:
        fight.start_driver()
        order = [kind for kind, count in KILLS.items() for _ in range(count)]
        fight.random.shuffle(order)
        for kind in order:
            fight.wait_for_work()
            time.sleep(fight.random.uniform(0.1, 1.5))
            fight.kill(kind)
        held.unlink()
        assert fight.driver is not None
        assert fight.driver.wait(600) == 0, (tmp_path / "driver.log").read_text()[-4000:]

    attempts, runs = table(fight.out, "attempts"), table(fight.out)
    counts = {kind: sum(kill["kind"] == kind for kill in fight.killed) for kind in KILLS}
    lost = attempts[attempts["outcome"] == "lost"]
    known, again = recovery_s(fight, attempts)
    with capsys.disabled():
        print(
            f"\nfault test, seed {fault_seed}: SIGKILLed {counts['actor']} actors, {counts['node']} nodes, "
            f"{counts['driver']} drivers; "
            f"{len(runs)} runs in {len(attempts)} attempts, {len(lost)} lost and recovered; "
            f"runs lost: {len(table(tmp_path / 'calm')) - len(runs)}, "
            f"a node's death known after at most {known:.1f} s, its runs going on after at most {again:.1f} s"
        )
    assert read_status(str(fight.out)).state == "completed"
    assert_complete(fight.out, spec())
    assert_same_results(fight.out, tmp_path / "calm")
    assert_every_loss_is_recorded(fight, attempts, runs)
    kinds = {event.kind for event in read_events(str(fight.out))}
    assert {"actor_lost", "node_added", "run_lost", "retry", "resumed"} <= kinds
    if not all(driver_followed(fight, kill) for kill in fight.killed if kill["kind"] == "node"):
        assert "node_lost" in kinds


def driver_followed(fight: Battle, kill: dict[str, Any]) -> bool:
    """Whether the driver was killed too before it can be expected to have seen this: its successor never knew."""
    return any(
        other["kind"] == "driver" and pd.Timedelta(0) <= other["at"] - kill["at"] < NOTICE for other in fight.killed
    )


def assert_every_loss_is_recorded(fight: Battle, attempts: pd.DataFrame, runs: pd.DataFrame) -> None:
    """Attempts are numbered without a gap, the last one completed; and every actor killed at work left a lost one."""
    for run_id, found in attempts.sort_values("attempt").groupby("run_id"):
        assert list(found["attempt"]) == list(range(1, len(found) + 1)), run_id
        assert list(found["outcome"]) == ["lost"] * (len(found) - 1) + ["completed"], run_id
    assert (attempts.groupby("run_id")["attempt"].max()[runs["run_id"]].to_numpy() == runs["attempt"].to_numpy()).all()
    for kill in fight.killed:
        if kill["kind"] == "actor":
            of_it = attempts[attempts["pid"] == kill["pid"]]
            just_ended = ((of_it["finished_at"] - kill["at"]).abs() < pd.Timedelta("1s")).any()
            assert (of_it["outcome"] == "lost").any() or just_ended or driver_followed(fight, kill), kill
