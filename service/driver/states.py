"""Where every run of a study stands, in one byte for each."""

from __future__ import annotations

from service.ledger.recovery import RunState
from service.spec.plan import Pack, Plan


class RunStates:
    """The :class:`RunState` of each run of a plan, and how many runs have ended in which way."""

    def __init__(self, plan: Plan, recovered: dict[str, bytearray]) -> None:
        self._plan = plan
        self._states = recovered  # by arm, at Plan.index
        self._count_all()

    def count(self, state: RunState) -> int:
        """Runs that have ended so."""
        return self._counts[state]

    @property
    def ended(self) -> int:
        """Runs that have ended."""
        return sum(self._counts[RunState.COMPLETED : RunState.TAKEN])

    def done(self) -> dict[str, int]:
        """Runs that have ended, by arm."""
        return {
            arm: len(states) - states.count(RunState.PENDING) - states.count(RunState.TAKEN)
            for arm, states in self._states.items()
        }

    def pending(self, pack: Pack) -> tuple[int, ...]:
        """The slots of ``pack`` whose runs are pending."""
        states, index = self._states[pack.arm.name], self._plan.index
        return tuple(slot for slot in pack.slots if states[index(pack.model, slot)] == RunState.PENDING)

    def take(self, pack: Pack) -> None:
        """The runs of ``pack`` are about to be trained."""
        states, index = self._states[pack.arm.name], self._plan.index
        for slot in pack.slots:
            states[index(pack.model, slot)] = RunState.TAKEN

    def end(self, pack: Pack, slot: int, state: RunState) -> None:
        """Note how a run has ended."""
        self._states[pack.arm.name][self._plan.index(pack.model, slot)] = state
        self._counts[state] += 1

    def extend(self, plan: Plan) -> None:
        """Go on with a plan that has more configurations, whose runs are pending."""
        self._plan = plan
        for arm, planned in plan.planned().items():
            self._states[arm].extend(bytes(planned - len(self._states[arm])))

    def reread(self, recovered: dict[str, bytearray]) -> None:
        """Take over what the ledger says now; runs that are taken stay so."""
        for arm, states in self._states.items():
            pairs = zip(states, recovered[arm], strict=True)
            states[:] = bytes(old if old == RunState.TAKEN else new for old, new in pairs)
        self._count_all()

    def _count_all(self) -> None:
        self._counts = [sum(states.count(state) for states in self._states.values()) for state in RunState]
