"""A soak: deals its blows, keeps a cluster, a driver and the storage going meanwhile, and waits for the study's end."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from service import StudySpec
from tests.soak.blows import Blow
from tests.soak.clients import Clients
from tests.soak.drivers import Drivers, end_leftovers
from tests.soak.journal import Journal
from tests.soak.nodes import Nodes
from tests.soak.paced import PACE
from tests.soak.places import Place

PACE_S = "0.06"  # after each record of a run, so that most of a run is no computing
TICK_S = 0.1
BETWEEN_S = (0.3, 2.3)
MORE = 20  # configurations, when a study is done before the last blow
NOBODY_WORKS_S = 300.0
ENDS_WITHIN_S = 3600.0


@dataclass
class Soak:
    """All that lives while blows are dealt."""

    place: Place
    nodes: Nodes
    drivers: Drivers
    clients: Clients
    journal: Journal
    kinds: Sequence[Blow]
    held: set[int] = field(default_factory=set)  # actors that SIGSTOP holds
    _due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        self._due.append((time.monotonic() + seconds, action))

    def tend(self) -> bool:
        """Do what is due, replace what has died; whether the study has been completed."""
        for entry in [entry for entry in self._due if entry[0] <= time.monotonic()]:
            self._due.remove(entry)
            entry[1]()
        for node_id in self.nodes.mend():
            self.journal.note("node_replaced", node_id=node_id)
        self.clients.tend()
        self.place.watch()
        return self.drivers.tend()

    def go_on(self) -> bool:
        """Tend; a study that is completed too early gets more configurations."""
        if not self.tend():
            return False
        spec = self.drivers.spec
        self.drivers.spec = replace(spec, configurations=spec.configurations + MORE)
        self.journal.note("extended", configurations=self.drivers.spec.configurations)
        self.drivers.start()
        return True

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let things go on for so long, or until something holds; whether it does."""
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() >= end:
                return False
            time.sleep(TICK_S)
            self.go_on()
        return True

    def deal(self, number: int, seed: str) -> None:
        """One blow, of a kind and at a moment that seed and number tell."""
        draw = random.Random(f"{seed}:{number}")
        self.wait(draw.uniform(*BETWEEN_S))
        if not self.wait(NOBODY_WORKS_S, lambda: bool(self.nodes.busy_actors())):
            raise RuntimeError(f"nobody works for {NOBODY_WORKS_S:.0f} s; the driver: {self.drivers.log()[-2000:]}")
        possible = [blow for blow in self.kinds if isinstance(self.place, blow.places)]
        while True:
            blow = draw.choices(possible, [blow.weight for blow in possible])[0]
            at = time.time()
            facts = blow.deal(self, draw, number)
            if facts is not None:
                self.journal.blow(number, blow.kind, at, facts)
                return
            self.wait(TICK_S)

    def finish(self) -> None:
        """Undo what is still to be undone, and wait until the study is complete and all is said."""
        end = time.monotonic() + ENDS_WITHIN_S
        while not self.tend() or self._due or self.drivers.zombies:
            if time.monotonic() > end:
                raise RuntimeError(f"the study does not end: {self.drivers.log()[-2000:]}")
            time.sleep(TICK_S)
        self.journal.note("completed", configurations=self.drivers.spec.configurations)

    def undo(self) -> None:
        """Carry out at once what was for later: nothing stays stopped, full or set wrong."""
        for _, action in self._due:
            action()
        self._due.clear()


@contextmanager
def soaking(place: Place, directory: Path, spec: StudySpec, journal: Journal, kinds: Sequence[Blow]) -> Iterator[Soak]:
    """A cluster, the storage and a driver; all end with the block, and the storage keeps what it has."""
    os.environ[PACE] = PACE_S
    end_leftovers(directory)
    place.start()
    try:
        nodes = Nodes(directory)
        drivers = Drivers(place, directory, nodes.address, spec, journal)
        soak = Soak(place, nodes, drivers, Clients(place, directory, journal), journal, kinds)
        try:
            yield soak
        finally:
            soak.undo()
            soak.clients.end()
            drivers.end()
            nodes.shutdown()
            journal.note("faults_met", **place.hits())
    finally:
        place.stop()
        del os.environ[PACE]
