"""Records, the frozen dataclasses that statistics return, and how they become frames and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Any, ClassVar, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from analysis.frames import NotComputable
from analysis.statistics.intervals import Estimate

T = TypeVar("T")
P = ParamSpec("P")
_DIGITS = 6  # significant: below that, the linear algebra of another machine differs


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a published table: a field is a column, and an estimate is three columns.

    The bounds of an estimate ``x`` are the columns ``x_low`` and ``x_high``, or, for the estimate that ``bounds_of``
    names, ``low`` and ``high``.
    """

    bounds_of: ClassVar[str] = ""

    def published(self) -> dict[str, Any]:
        """Column -> value."""
        columns: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Estimate):
                columns |= bounded(f.name, value, "" if f.name == self.bounds_of else f"{f.name}_")
            else:
                columns[f.name] = value
        return columns


def bounded(name: str, estimate: Estimate, prefix: str | None = None) -> dict[str, float]:
    """The three columns of an estimate: ``name``, and its bounds under ``prefix`` (by default ``{name}_``)."""
    before = f"{name}_" if prefix is None else prefix
    return {name: estimate.value, f"{before}low": estimate.low, f"{before}high": estimate.high}


def to_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a frame."""
    return pd.DataFrame([row.published() for row in rows])


def framed(statistic: Callable[P, tuple[Row, ...] | NotComputable]) -> Callable[P, pd.DataFrame | NotComputable]:
    """The same statistic with its rows as a frame, whose columns are the fields of the rows; see :class:`Row`."""

    @wraps(statistic)
    def as_frame(*args: P.args, **kwargs: P.kwargs) -> pd.DataFrame | NotComputable:
        rows = statistic(*args, **kwargs)
        return rows if isinstance(rows, NotComputable) else to_frame(rows)

    return as_frame


def computed(part: T | NotComputable) -> T | None:
    """``part``, or None where the study did not allow it."""
    return None if isinstance(part, NotComputable) else part


def computed_parts(parts: Mapping[str, T | NotComputable]) -> dict[str, T] | NotComputable:
    """Those of ``parts`` that the study allows, under their names; where it allows none, the first reason."""
    found = {name: part for name, part in parts.items() if not isinstance(part, NotComputable)}
    reasons = (part for part in parts.values() if isinstance(part, NotComputable))
    return found or next(reasons, NotComputable("no run"))


def significant(value: float) -> float | None:
    """``value`` to the six digits that are published; None where it is not finite."""
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None


def to_plain(value: Any) -> Any:
    """``value`` in the types of JSON: frames as lists of rows, dataclasses as objects, NaN as None, six digits.

    A record with a method ``published`` is an object of the keys and values that this method returns.
    """
    if isinstance(value, NotComputable):
        return {"not_computable": value.reason}
    if isinstance(value, pd.DataFrame):
        return [to_plain(record) for record in value.to_dict("records")]
    if hasattr(value, "published"):
        return to_plain(value.published())
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return significant(float(value))
    return value if value is None or isinstance(value, str) else str(value)
