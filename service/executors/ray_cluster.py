"""The Ray cluster that a study uses: connecting to it, its nodes, and how many actors they can hold."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Any

import ray
from ray._private.state import state as global_state

from service.errors import ResourceError, StudyError
from service.executors.base import Notice
from service.spec.execution import ExecutionConfig

CONNECT_S = 10.0
EMBEDDED_STORE_BYTES = 200 * 2**20  # only results pass through it


class Cluster:
    """A connection to Ray."""

    def __init__(self, execution: ExecutionConfig, address: str | None) -> None:
        self._execution = execution
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._ours = False
        self._nodes: dict[str, dict[str, Any]] = {}
        self._leaving: set[str] = set()
        self.need: dict[str, float] = {"CPU": execution.cpus_per_actor}
        if execution.gpus_per_actor:
            self.need["GPU"] = execution.gpus_per_actor
        if execution.memory_per_actor_gib:
            self.need["memory"] = execution.memory_per_actor_gib * 2**30

    def connect(self, notice: Notice) -> None:
        """Connect, or start a cluster in this process; raises StudyError, ResourceError."""
        self._notice = notice
        if not ray.is_initialized():
            self._ours = True
            logging.getLogger("ray").setLevel(logging.ERROR)
            self._initialise()
        deadline = time.monotonic() + self._execution.resource_timeout_s
        while True:
            self.look()
            if any(self._fits(node) for node in self._nodes.values()):
                return
            if time.monotonic() >= deadline:
                raise ResourceError(self._shortage())
            time.sleep(1.0)

    def disconnect(self) -> None:
        """Close the connection if it was opened here; an embedded cluster ends."""
        if self._ours:
            ray.shutdown()
            self._ours = False

    def look(self) -> set[str]:
        """Take note of the nodes that are there; returns those that are leaving or gone."""
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        present = {node["NodeID"]: node for node in nodes if node["Alive"]}
        for key in present.keys() - self._nodes.keys():
            self._notice("node_added", present[key]["NodeManagerAddress"], {"node_id": key, **_resources(present[key])})
        gone = self._nodes.keys() - present.keys()
        for key in gone:
            self._notice("node_lost", self._nodes[key]["NodeManagerAddress"], {"node_id": key})
        draining = set(global_state.get_draining_nodes()) & present.keys()
        for key in draining - self._leaving:
            self._notice("node_draining", present[key]["NodeManagerAddress"], {"node_id": key})
        self._nodes, self._leaving = present, draining
        return draining | gone

    def room_for_actors(self) -> int:
        """How many actors to have now."""
        if self._execution.actors != "auto":
            return self._execution.actors
        return sum(self._fits(node) for key, node in self._nodes.items() if key not in self._leaving)

    def has_process(self, actor: Any) -> bool:
        """Whether an actor was given a process; one that waits for a node has none."""
        return bool(global_state.actor_table(actor._actor_id.hex()).get("Pid"))

    def _initialise(self) -> None:
        try:
            if self._address in (None, "local"):
                self._embed()
            else:
                _check_address(self._address)
                ray.init(self._address, logging_level=logging.ERROR, log_to_driver=False)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            reason = first_line(error) or type(error).__name__
            raise StudyError(
                f"Ray at {self._address or 'this machine'}: cannot be used ({reason}); "
                "give the address HOST:PORT of a running cluster, and its token"
            ) from None

    def _embed(self) -> None:
        actors = 1 if self._execution.actors == "auto" else self._execution.actors
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            "local",
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            num_cpus=max(os.cpu_count() or 1, round(actors * self._execution.cpus_per_actor + 0.5)),
            object_store_memory=EMBEDDED_STORE_BYTES,
        )

    def _fits(self, node: dict[str, Any]) -> int:
        return min(int((node["Resources"].get(name, 0.0) + 1e-9) / amount) for name, amount in self.need.items())

    def _shortage(self) -> str:
        offers = [f"{node['NodeManagerAddress']} has {_words(_resources(node))}" for node in self._nodes.values()]
        return (
            f"execution: an actor needs {_words(self.need)}, and no node has that "
            f"({'; '.join(offers) or 'there are no nodes'}); ask for less, or set execution.resource_timeout_s to "
            "wait for a cluster that scales up"
        )


def _check_address(address: str) -> None:
    """Raise OSError or ValueError if nobody listens at HOST:PORT; Ray itself would go on trying for two minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address != "auto":
        if not host or not port.isdigit():
            raise ValueError("not HOST:PORT")
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()


def _resources(node: dict[str, Any]) -> dict[str, float]:
    return {name: float(node["Resources"].get(name, 0.0)) for name in ("CPU", "GPU", "memory")}


def _words(resources: dict[str, float]) -> str:
    return ", ".join(
        f"{amount / 2**30:.1f} GiB of memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in resources.items()
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
