"""What is to be trained next: first what has come back to be trained, then the plan in its order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from service.driver.states import RunStates
from service.ledger.recovery import Finals
from service.spec.plan import Pack, Plan


class Work(NamedTuple):
    """A pack to be trained."""

    pack: Pack
    initials: Sequence[dict[str, float]] | None = None  # where each run starts, in an arm that follows another
    alone: bool = False  # on a worker that has nothing else meanwhile


class WorkQueue:
    """The work that is left. Runs that it holds or has handed out are marked as taken in ``states``."""

    def __init__(self, plan: Plan, states: RunStates, finals: Finals) -> None:
        self._plan, self._states = plan, states
        self._finals = finals  # of runs that had ended before this queue was made; used up as their followers are met
        self._first: deque[Work] = deque()
        self._rest = self._planned()

    def peek(self) -> Work | None:
        """The next work, which stays in the queue; None if nothing is left."""
        work = self.pop()
        if work is not None:
            self._first.appendleft(work)
        return work

    def pop(self) -> Work | None:
        """Take the next work out; None if nothing is left."""
        return self._first.popleft() if self._first else next(self._rest, None)

    def push(self, work: Work) -> None:
        """Put work behind all that has come back, and before the rest of the plan."""
        self._states.take(work.pack)
        self._first.append(work)

    def push_followers(self, pack: Pack, finals: Sequence[dict[str, float]]) -> None:
        """Put in what starts from the values ``finals``, with which the runs of ``pack`` have ended."""
        of_slot = dict(zip(pack.slots, finals, strict=True))
        for arm in self._plan.followers[pack.arm.name]:
            # Where a damaged shard made a run pending again, those that follow it may be done.
            if slots := self._states.pending(pack._replace(arm=arm)):
                self.push(Work(Pack(arm, pack.model, slots), [of_slot[slot] for slot in slots]))

    def restart(self, plan: Plan, finals: Finals | None = None) -> None:
        """Go through ``plan`` from its beginning, because more of it is pending; ``finals`` replace those of before."""
        self._plan = plan
        self._finals = self._finals if finals is None else finals
        self._rest = self._planned()

    def _planned(self) -> Iterator[Work]:
        for pack in self._plan.packs():
            if slots := self._states.pending(pack):
                yield self._taken(Work(pack._replace(slots=slots)))
            if self._finals:
                yield from self._followers(pack)

    def _followers(self, pack: Pack) -> Iterator[Work]:
        """Those followers of the runs of ``pack`` that need not wait for them, because they have ended already."""
        for arm in self._plan.followers[pack.arm.name]:
            slots = self._states.pending(pack._replace(arm=arm))
            if slots := tuple(slot for slot in slots if (arm.name, pack.model, slot) in self._finals):
                finals = [self._finals.pop((arm.name, pack.model, slot)) for slot in slots]
                yield self._taken(Work(Pack(arm, pack.model, slots), finals))
            yield from self._followers(pack._replace(arm=arm))

    def _taken(self, work: Work) -> Work:
        self._states.take(work.pack)
        return work
