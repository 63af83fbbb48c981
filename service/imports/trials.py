"""What every reader of another program's results returns: its trials, in words that owe nothing to that program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

End = Literal["completed", "stopped", "failed"]  # stopped: by a scheduler or a pruner, before its end


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a trial has said at one step: its metrics, and the parameters that it then had."""

    step: int
    metrics: Mapping[str, Any]
    parameters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial that has ended. Names of nested parameters and metrics are joined by slashes."""

    id: str
    end: End
    reports: tuple[Report, ...]  # in the order of their steps
    metrics: Mapping[str, Any]  # at the end
    initial: Mapping[str, Any]  # its parameters at the start
    final: Mapping[str, Any]  # and at the end: they differ where a scheduler such as PBT changes them
    error: str | None = None
    started_at: float | None = None  # seconds since 1970
    finished_at: float | None = None
    seconds: float | None = None  # of training
    node_ip: str | None = None
    pid: int | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A search: where it lies, its trials in the order of their start, and what is not among them."""

    kind: Literal["Ray Tune", "Optuna"]
    name: str
    location: str
    trials: tuple[Trial, ...]
    maximised: frozenset[str] = frozenset()  # metrics of which more is better
    left_out: Counter[str] = field(default_factory=Counter)  # why → how many trials, or lines of their records

    @property
    def parameters(self) -> list[str]:
        """The names of all parameters."""
        return sorted({name for trial in self.trials for name in trial.final})

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics that are numbers in some trial."""
        return sorted(
            {
                name
                for trial in self.trials
                for metrics in (trial.metrics, *(report.metrics for report in trial.reports))
                for name, value in metrics.items()
                if is_number(value)
            }
        )


def is_number(value: object) -> bool:
    """Whether ``value`` is an integer or a float; true and false are neither."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one, with the names on the way joined by slashes, as Ray Tune does it."""
    found: dict[str, Any] = {}
    rest = list(values.items())
    while rest:  # however deep they are nested
        name, value = rest.pop(0)
        if isinstance(value, Mapping):
            rest = [(f"{name}/{inner}", each) for inner, each in value.items()] + rest
        else:
            found[str(name)] = value
    return found
