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


def spec() -> StudySpec:
    """96 real trainings of about half a second, with a checkpoint every quarter."""
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

    def wait_for_work(self) -> bool:
        """Until an actor trains; False if the study ends before."""
        end = time.monotonic() + 180
        while not self.busy_actors():
            assert self.driver is not None
            if self.driver.poll() is not None:
                return False
            assert time.monotonic() < end, "nobody works"
            time.sleep(0.05)
        return True

    def kill(self, kind: str) -> None:
        """SIGKILL one victim of a kind, and put a new node or driver in its place."""
        assert self.driver is not None
        victims = self.busy_actors()
        at, node_id = datetime.now(UTC), None
        if kind == "actor":
            pid = self.random.choice(victims)
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
            pid = self.driver.pid
            self.driver.kill()
            self.driver.wait()
            self.start_driver()
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
    tmp_path: Path, fault_seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run_serially(spec(), tmp_path / "calm")
    with battle(tmp_path, fault_seed) as fight:
        fight.start_driver()
        order = [kind for kind, count in KILLS.items() for _ in range(count)]
        fight.random.shuffle(order)
        for kind in order:
            if not fight.wait_for_work():
                break
            time.sleep(fight.random.uniform(0.1, 1.5))
            if fight.wait_for_work():
                fight.kill(kind)
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
    assert sum(counts.values()) == sum(KILLS.values()), "the study ended before all were killed"
    assert read_status(str(fight.out)).state == "completed"
    assert_complete(fight.out, spec())
    assert_same_results(fight.out, tmp_path / "calm")
    assert_every_loss_is_recorded(fight, attempts, runs)
    kinds = {event.kind for event in read_events(str(fight.out))}
    assert {"actor_lost", "node_lost", "node_added", "run_lost", "retry", "resumed"} <= kinds


def assert_every_loss_is_recorded(fight: Battle, attempts: pd.DataFrame, runs: pd.DataFrame) -> None:
    """Attempts are numbered without a gap, the last one completed; and every actor killed at work left a lost one."""
    for run_id, found in attempts.sort_values("attempt").groupby("run_id"):
        assert list(found["attempt"]) == list(range(1, len(found) + 1)), run_id
        assert list(found["outcome"]) == ["lost"] * (len(found) - 1) + ["completed"], run_id
    assert (attempts.groupby("run_id")["attempt"].max()[runs["run_id"]].to_numpy() == runs["attempt"].to_numpy()).all()
    driver_kills = [kill["at"] for kill in fight.killed if kill["kind"] == "driver"]
    for kill in fight.killed:
        if kill["kind"] == "actor":
            of_it = attempts[attempts["pid"] == kill["pid"]]
            just_ended = ((of_it["finished_at"] - kill["at"]).abs() < pd.Timedelta("1s")).any()
            unnoticed = any(pd.Timedelta(0) <= at - kill["at"] < pd.Timedelta("5s") for at in driver_kills)
            assert (of_it["outcome"] == "lost").any() or just_ended or unnoticed, kill
