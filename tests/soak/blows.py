"""What can befall a study: one table of kinds, their weights, and what deals them."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.storage.lease_record import TTL_S
from tests.soak.nodes import set_clock
from tests.soak.places import DiskPlace, S3Place

if TYPE_CHECKING:
    from tests.soak.soak import Soak

Facts = dict[str, Any]
CLIENTS = ("status", "results", "watch", "list", "extend", "retry")
JUMPS_S = (-86_400, -3_600, -30, 30, 3_600, 86_400)
DEAD_AFTER_S = 10.0  # a stopped node: five health checks, a second each, after a second each


@dataclass(frozen=True)
class Blow:
    """A kind: how often it comes beside the others, where it can, and what deals it.

    ``limit`` says what sets the time that a recovery takes. ``deal`` gets the soak, the random numbers of this blow and
    its number. It returns what is to be written down, with ``lasts_s`` for what takes a while; None if there is no
    victim now.
    """

    kind: str
    weight: float
    places: tuple[type, ...]
    deal: Callable[[Soak, random.Random, int], Facts | None]
    limit: str


def kill_actor(soak: Soak, draw: random.Random, number: int) -> Facts | None:
    """SIGKILL an actor that trains."""
    pid = _victim(soak, draw)
    if pid is None:
        return None
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return {"pid": pid}


def stop_actor(soak: Soak, draw: random.Random, number: int) -> Facts | None:
    """SIGSTOP an actor that trains, for a few seconds."""
    return _hold(soak, draw, 0.5, 5.0)


def _hold(soak: Soak, draw: random.Random, shortest_s: float, longest_s: float) -> Facts | None:
    pid = _victim(soak, draw)
    if pid is None:
        return None
    lasts_s = draw.uniform(shortest_s, longest_s)
    os.kill(pid, signal.SIGSTOP)
    soak.held.add(pid)

    def go_on() -> None:
        soak.held.discard(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    soak.later(lasts_s, go_on)
    return {"pid": pid, "lasts_s": lasts_s}


def hang_actor(soak: Soak, draw: random.Random, number: int) -> Facts | None:
    """SIGSTOP an actor that trains, for longer than any of its runs takes; what it was at comes late, if at all."""
    return _hold(soak, draw, 20.0, 60.0)


def kill_node(soak: Soak, draw: random.Random, number: int) -> Facts | None:
    """SIGKILL a raylet and all that belongs to its node; another node comes in its place."""
    node = draw.choice(soak.nodes.nodes)
    facts = {"node_id": node.node_id, "pid": node.pid, "pids": _at_work_on(soak, node)}
    soak.nodes.replace(node)
    return facts


def stop_node(soak: Soak, draw: random.Random, number: int) -> Facts | None:
    """SIGSTOP a raylet and its workers, for less or for more than the cluster takes to think it dead."""
    going = [node for node in soak.nodes.nodes if not node.stopped]
    if len(going) < 2:
        return None
    node = draw.choice(going)
    is_long = draw.random() < 0.5
    lasts_s = draw.uniform(2 * DEAD_AFTER_S, 3 * DEAD_AFTER_S) if is_long else draw.uniform(0.5, 3.0)
    facts = {"node_id": node.node_id, "pid": node.pid, "pids": _at_work_on(soak, node), "lasts_s": lasts_s}
    soak.nodes.stop(node)
    soak.later(lasts_s, lambda: soak.nodes.go_on(node))
    return facts


def kill_driver(soak: Soak, draw: random.Random, number: int) -> Facts | None:
    """SIGKILL the driver; another one comes in its place."""
    if soak.drivers.stopped:
        return None
    orphans = set(soak.nodes.busy_actors())
    pid = soak.drivers.kill()
    soak.wait(20.0, lambda: not orphans - soak.held & set(soak.nodes.busy_actors()))  # no victims of the next blow
    return {"pid": pid}


def stop_driver(soak: Soak, draw: random.Random, number: int) -> Facts | None:
    """SIGSTOP the driver for some seconds, while nobody else asks for its study."""
    if soak.drivers.stopped:
        return None
    process, lasts_s = soak.drivers.current, draw.uniform(0.5, 8.0)
    assert process is not None
    pid = soak.drivers.stop()
    soak.later(lasts_s, lambda: soak.drivers.go_on(process))
    return {"pid": pid, "lasts_s": lasts_s}


def zombie_driver(soak: Soak, draw: random.Random, number: int) -> Facts | None:
    """SIGSTOP the driver for longer than its lease, start another one, and let the first go on when that one works."""
    if soak.drivers.stopped or soak.drivers.zombies or not soak.drivers.holds_lease():
        return None
    pid = soak.drivers.stop()
    zombie = soak.drivers.supersede(number)
    rest_s = draw.uniform(0.5, 8.0)

    def wake_when_replaced() -> None:
        if soak.drivers.holds_lease():
            soak.later(rest_s, lambda: soak.drivers.wake(zombie))
        else:
            soak.later(0.5, wake_when_replaced)

    soak.later(TTL_S, wake_when_replaced)
    return {"pid": pid}


def kill_client(soak: Soak, draw: random.Random, number: int) -> Facts | None:
    """SIGKILL a command on the study in its middle."""
    command = draw.choice(CLIENTS)
    lasts_s = draw.uniform(0.3, 4.0)
    process = soak.clients.start(command)
    soak.later(lasts_s, lambda: soak.clients.kill(process, number))
    return {"command": command, "pid": process.pid, "lasts_s": lasts_s}


def clock_jumps(soak: Soak, draw: random.Random, number: int) -> Facts | None:
    """Set one node's clock forward or back, and right again some seconds later."""
    node = draw.choice(soak.nodes.nodes)
    if node.clock is None:
        return None
    jump, lasts_s = draw.choice(JUMPS_S), draw.uniform(3.0, 15.0)
    set_clock(node, jump)
    soak.later(lasts_s, lambda: set_clock(node, 0))
    return {"node_id": node.node_id, "jump_s": jump, "lasts_s": lasts_s}


def full_disk(soak: Soak, draw: random.Random, number: int) -> Facts | None:
    """Fill the storage to the last byte, for some seconds."""
    place, lasts_s = soak.place, draw.uniform(1.0, 8.0)
    assert isinstance(place, DiskPlace)
    place.fill()
    soak.later(lasts_s, place.free)
    return {"lasts_s": lasts_s}


def storage_fault(fault: str, shortest_s: float, longest_s: float) -> Callable[[Soak, random.Random, int], Facts]:
    """Let the S3 server fail in one way, for some seconds."""

    def deal(soak: Soak, draw: random.Random, number: int) -> Facts:
        lasts_s = draw.uniform(shortest_s, longest_s)
        assert isinstance(soak.place, S3Place)
        soak.place.fault(fault, lasts_s)
        soak.later(lasts_s, lambda: None)  # the soak is not over before its faults are
        return {"lasts_s": lasts_s}

    return deal


BOTH = (S3Place, DiskPlace)
RETRIES = "the delay before the next try, which doubles"
BLOWS = (
    Blow("actor SIGKILL", 22, BOTH, kill_actor, "the start of another actor's process (Ray, torch)"),
    Blow("actor SIGSTOP", 8, BOTH, stop_actor, "none: the actor goes on with its run"),
    Blow("actor hung", 3, BOTH, hang_actor, "`hung_after_s`, then the start of another actor's process"),
    Blow("node SIGKILL", 5, BOTH, kill_node, "Ray's health checks, then the start of a node and of an actor"),
    Blow(
        "node SIGSTOP",
        4,
        BOTH,
        stop_node,
        "as of a killed node, if it is stopped for longer than the health checks take; else none",
    ),
    Blow("node clock jump", 6, BOTH, clock_jumps, "none: nothing waits for the time of day"),
    Blow("driver SIGKILL", 6, BOTH, kill_driver, "the start of a driver and of its actors"),
    Blow("driver SIGSTOP", 4, BOTH, stop_driver, "none: the driver goes on"),
    Blow(
        "driver zombie",
        1.5,
        BOTH,
        zombie_driver,
        "the lease's time to live, then the start of a driver and of actors, once the zombie's have gone",
    ),
    Blow("client SIGKILL", 10, BOTH, kill_client, "the start of a command"),
    Blow("storage error 500", 7, (S3Place,), storage_fault("error500", 0.5, 12.0), RETRIES),
    Blow("storage hang", 5, (S3Place,), storage_fault("hang", 1.0, 10.0), RETRIES),
    Blow("storage GET truncated", 5, (S3Place,), storage_fault("truncated_get", 1.0, 10.0), RETRIES),
    Blow("storage PUT cut", 5, (S3Place,), storage_fault("cut_put", 0.5, 10.0), RETRIES),
    Blow("storage full", 20, (DiskPlace,), full_disk, RETRIES),
)


def _victim(soak: Soak, draw: random.Random) -> int | None:
    """An actor that trains and that nothing holds."""
    busy = soak.nodes.busy_actors()
    free = sorted(pid for pid, node in busy.items() if pid not in soak.held and pid not in node.stopped)
    return draw.choice(free) if free else None


def _at_work_on(soak: Soak, node: object) -> list[int]:
    return sorted(pid for pid, its in soak.nodes.busy_actors().items() if its is node)
