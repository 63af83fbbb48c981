"""The Ray cluster of a soak: a head without CPUs and worker nodes of one CPU, each a raylet of its own."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

NODES = 2
STORE_BYTES = 80 * 2**20
CLOCK_SOURCE = Path(__file__).with_name("clock.c")


@dataclass(eq=False)
class Node:
    """A raylet and what it needs to be told."""

    handle: Any
    clock: Path | None
    stopped: set[int] = field(default_factory=set)  # processes that SIGSTOP holds

    @property
    def pid(self) -> int:
        """The raylet's process."""
        return int(self.handle.all_processes["raylet"][0].process.pid)

    @property
    def node_id(self) -> str:
        """Ray's name for it."""
        return str(self.handle.node_id)

    @property
    def alive(self) -> bool:
        """Whether the raylet's process is there."""
        return self.handle.all_processes["raylet"][0].process.poll() is None


class Nodes:
    """The cluster's nodes; one that has died is replaced."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._library = build_clock(directory)
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": STORE_BYTES,
                "_system_config": {
                    "health_check_period_ms": 1000,
                    "health_check_failure_threshold": 5,
                    "health_check_timeout_ms": 1000,
                },
            },
        )
        self._started = 0
        self.nodes: list[Node] = []
        for _ in range(NODES):
            self.add(wait=True)

    @property
    def address(self) -> str:
        """Where drivers connect."""
        return str(self._cluster.address)

    @property
    def have_clocks(self) -> bool:
        """Whether a node's clock can be set."""
        return self._library is not None

    def add(self, wait: bool = False) -> Node:
        """One more node, with a clock of its own where that can be had."""
        self._started += 1
        clock, environment = None, {}
        if self._library is not None:
            clock = self._directory / f"clock-{os.getpid()}-{self._started}"
            clock.write_bytes(struct.pack("=q", 0))
            environment = {"LD_PRELOAD": str(self._library), "SOAK_CLOCK": str(clock)}
        handle = self._cluster.add_node(
            wait=wait, num_cpus=1, object_store_memory=STORE_BYTES, env_vars=environment or None
        )
        self.nodes.append(Node(handle, clock))
        return self.nodes[-1]

    def replace(self, node: Node) -> None:
        """SIGKILL what is left of a node, and put another in its place."""
        for pid in node.stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.nodes.remove(node)
        self._cluster.remove_node(node.handle, allow_graceful=False)
        self.add()

    def mend(self) -> list[str]:
        """Replace nodes that have died by themselves; their names."""
        dead = [node for node in self.nodes if not node.alive]
        for node in dead:
            self.replace(node)
        return [node.node_id for node in dead]

    def busy_actors(self) -> dict[int, Node]:
        """Processes that are training, and their nodes."""
        parents = {node.pid: node for node in self.nodes}
        return {pid: parents[parent] for pid, parent in workers(b"ray::RayWorker.run") if parent in parents}

    def actors(self) -> set[int]:
        """Processes of actors, at work or idle."""
        return {pid for pid, _ in workers(b"ray::RayWorker")}

    def stop(self, node: Node) -> None:
        """SIGSTOP a node and all its workers."""
        for pid in [node.pid, *children(node.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                node.stopped.add(pid)

    def go_on(self, node: Node) -> None:
        """SIGCONT it."""
        for pid in node.stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        node.stopped.clear()

    def shutdown(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            self.go_on(node)
        self._cluster.shutdown()
        ray.shutdown()


def set_clock(node: Node, seconds: int) -> None:
    """Let the node's clock differ by so many seconds from now on."""
    assert node.clock is not None
    with node.clock.open("r+b") as file:
        file.write(struct.pack("=q", seconds))


def build_clock(directory: Path) -> Path | None:
    """The library that shifts a process's clock; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = directory / "clock.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(CLOCK_SOURCE), "-ldl"], check=True)
    return library


def workers(title: bytes) -> list[tuple[int, int]]:
    """Processes whose title begins so, and their parents."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError, IndexError):
                if (process / "cmdline").read_bytes().startswith(title):
                    found.append((int(process.name), parent(process)))
    return sorted(found)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are there."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError, IndexError):
                if parent(process) == pid:
                    found.append(int(process.name))
    return found


def parent(process: Path) -> int:
    """The parent of a process below /proc."""
    return int((process / "stat").read_text().rpartition(")")[2].split()[1])
