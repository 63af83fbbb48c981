"""What a trainer yields, checked where it is received: a trainer may be the user's own, and may yield anything.

A record that cannot be a row of the tables raises :class:`BadRecordError`, so that its attempt fails with the
reason. The driver is given nothing but built-in floats, whole numbers and strings in columns of equal length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from service.executors.base import Trained
from service.spec.plan import PlannedRun
from trainers.errors import LONGEST_LINE, quoted

if TYPE_CHECKING:
    from trainers.records import Point, Result

FAR = 2**63  # steps are 64-bit integers in the tables
LONGEST_REASON = 500  # characters of the reason why a run failed
MEASURES = ("t1_loss", "t2_loss", "t2_error", "test_loss", "test_error")
STATUSES = ("completed", "diverged")
_NUMBERS = attrgetter(*MEASURES, "train_time_s")


class BadRecordError(ValueError):
    """A trainer has yielded what cannot be a result. The message names the field, the value and what is allowed."""


class Received:
    """Collects the records of one attempt at a pack, and checks each of them.

    Numbers may be of Python, of NumPy, or tensors without dimensions: they are kept as floats and whole numbers. A
    completed run of which a loss or an error is not finite is kept as diverged.
    """

    def __init__(self, runs: Sequence[PlannedRun], points: dict[str, list[Any]]) -> None:
        """``points`` are those before the checkpoint that the attempt goes on from, if there is one."""
        from trainers.records import Point, Result  # here, and once: it imports torch, and an import takes time

        self._Point, self._Result = Point, Result
        self._runs = runs
        self._names = tuple(runs[0].initial)  # of the hyperparameters: the same for every run of a pack
        self._results: dict[int, Result] = {}
        self._last = [-1] * len(runs)  # step of each member's latest point
        self._columns = points
        self._rows: list[tuple[Any, ...]] = []  # points that are not in the columns yet, and not checked
        self._recorded: tuple[tuple[str, ...], tuple[str, ...]] | None = None  # names in a point, of the two kinds
        if points:
            gradients = tuple(name for name in self._names if f"hypergradient_{name}" in points)
            self._record(tuple(name for name in self._names if name in points), gradients)
            self._check_steps(points["member"], points["step"])

    def add(self, record: object) -> None:
        """Take a point or a result; raises :class:`BadRecordError`."""
        if isinstance(record, self._Point):
            self._add_point(record)
        elif isinstance(record, self._Result):
            self._add_result(record)
        else:
            raise BadRecordError(
                f"the trainer yielded {_shown(record)}: must be a Point, a Checkpoint or a Result of trainers.records"
            )

    def trained(self) -> Trained:
        """All of it, once the trainer has ended; raises :class:`BadRecordError` unless each member has a result."""
        if len(self._results) < len(self._runs):
            raise BadRecordError(
                f"the trainer gave results for members {sorted(self._results)} of a pack of {len(self._runs)}: "
                "must be one for each"
            )
        return Trained([self._results[member] for member in range(len(self._runs))], self.points())

    def points(self) -> dict[str, list[Any]]:
        """The points so far, as columns; raises :class:`BadRecordError`.

        Checked column by column, because there are many points: to look at each number of each takes longer than all
        else that is done for a run.
        """
        rows, self._rows = self._rows, []
        names = list(self._columns)
        for name, found in zip(names, zip(*rows, strict=True), strict=False):  # none, where there are no rows
            column: Sequence[Any] = found
            if name in ("member", "step"):
                if set(map(type, column)) != {int}:
                    column = [_whole(value, f"Point.{name}") for value in column]
            else:
                if set(map(type, column)) != {float}:
                    column = [_number(value, f"Point, {name}") for value in column]
                if name in self._names and not all(map(math.isfinite, column)):
                    bad = next(value for value in column if not math.isfinite(value))
                    raise BadRecordError(f"Point.hyperparameters, {name} = {bad}: must be finite")
            if name == "step":
                self._check_steps(self._columns["member"][-len(rows) :], column)
            self._columns[name].extend(column)
        return self._columns

    def _check_steps(self, members: Sequence[int], steps: Sequence[int]) -> None:
        """Each member's steps grow, so that none of its points is taken for another's double."""
        last, most = self._last, len(self._runs)
        for member, step in zip(members, steps, strict=True):
            if not 0 <= member < most:
                raise BadRecordError(f"Point.member = {quoted(member)}: must be in [0, {most - 1}]")
            if not last[member] < step < FAR:
                raise BadRecordError(
                    f"Point.step = {quoted(step)}: must be at least 0, below 2^63 and beyond the step of the member's "
                    f"point before it ({last[member] if last[member] >= 0 else 'there is none'})"
                )
            last[member] = step

    def _add_point(self, point: Point) -> None:
        values, gradient = point.hyperparameters, point.hypergradient
        if self._recorded is None:
            self._begin(values, gradient)
        assert self._recorded is not None
        names, gradients = self._recorded
        try:
            row = (point.member, point.step, point.t1_loss, point.t2_loss, *self._of(values), *self._by(gradient))
            uneven = len(values) != len(names) or len(gradient) != len(gradients)
        except (KeyError, TypeError, IndexError):
            uneven = True
        if uneven:
            raise BadRecordError(
                f"Point of step {_shown(point.step)}: holds {_shown(values)} and the derivatives {_shown(gradient)}; "
                f"the first point of the pack held {list(names)} and derivatives by {list(gradients)}: must be the "
                "same in all"
            )
        if self._results and self._member(point.member, "Point") in self._results:
            raise BadRecordError(f"Point.member = {point.member}: has its result already; must come before it")
        self._rows.append(row)

    def _begin(self, values: object, gradient: object) -> None:
        """The first point of the pack says which columns there are."""
        recorded = []
        for found, where in ((values, "Point.hyperparameters"), (gradient, "Point.hypergradient")):
            if not isinstance(found, dict) or any(name not in self._names for name in found):
                raise BadRecordError(f"{where} = {_shown(found)}: must be a dict with numbers for {list(self._names)}")
            recorded.append(tuple(name for name in self._names if name in found))
        names, gradients = recorded
        self._record(names, gradients)
        columns = ["member", "step", "t1_loss", "t2_loss", *names, *(f"hypergradient_{name}" for name in gradients)]
        self._columns |= {name: [] for name in columns}

    def _record(self, names: tuple[str, ...], gradients: tuple[str, ...]) -> None:
        self._recorded = names, gradients
        self._of, self._by = _picker(names), _picker(gradients)

    def _add_result(self, result: Result) -> None:
        member = self._member(result.member, "Result")
        if member in self._results:
            raise BadRecordError(f"Result.member = {member}: has a result already; must be one for each member")
        status, final = result.status, result.final
        if not isinstance(status, str) or status not in STATUSES:
            raise BadRecordError(f"Result.status = {_shown(status)}: must be 'completed' or 'diverged'")
        if not isinstance(final, dict) or set(final) != set(self._names):
            raise BadRecordError(f"Result.final = {_shown(final)}: must be a dict with numbers for {list(self._names)}")
        if type(result) is self._Result and _is_plain(result):
            self._results[member] = result
            return
        measured = {name: _number(getattr(result, name), f"Result.{name}") for name in MEASURES}
        if not all(map(math.isfinite, measured.values())):
            status = "diverged"
        self._results[member] = self._Result(
            member=member,
            status="completed" if status == "completed" else "diverged",  # no subclass of str
            steps=_steps(result.steps, "Result.steps"),
            initial=self._runs[member].initial,
            final={name: _finite(final[name], name, "Result.final") for name in self._names},
            train_time_s=_finite(result.train_time_s, "train_time_s", "Result"),
            **measured,
        )

    def _member(self, value: object, record: str) -> int:
        member = value if type(value) is int else _whole(value, f"{record}.member")
        if not 0 <= member < len(self._runs):
            raise BadRecordError(f"{record}.member = {quoted(member)}: must be in [0, {len(self._runs) - 1}]")
        return member


def _is_plain(result: Result) -> bool:
    """Whether a result can be kept as it is, like nearly all: nothing to convert, and every number finite."""
    numbers = (*_NUMBERS(result), *result.final.values())
    return (
        set(map(type, numbers)) == {float}
        and math.isfinite(sum(numbers))
        and [type(kept) for kept in (result.member, result.steps, result.status, result.initial)]
        == [int, int, str, dict]
        and set(map(type, result.initial.values())) == {float}
        and 0 <= result.steps < FAR
    )


def unsound(trained: Trained, runs: Sequence[PlannedRun]) -> str | None:
    """Why what an executor hands over cannot become rows of the tables; None if it can.

    A worker's is sound, because :class:`Received` has checked it. This guards the driver, which must outlive any
    executor, and takes a few microseconds a run.
    """
    points, results = trained.points, trained.results
    if [result.member for result in results] != list(range(len(runs))):
        return f"there are {len(results)} results for a pack of {len(runs)}: must be one for each member, in order"
    for result in results:
        if result.status not in STATUSES or type(result.steps) is not int or not 0 <= result.steps < FAR:
            return f"Result.status = {_shown(result.status)}, Result.steps = {_shown(result.steps)}: cannot be kept"
        if not set(map(type, [*_NUMBERS(result), *result.final.values()])) <= {float}:
            return f"{_shown(result)}: its losses, errors, time and final values must be floats"
    if len(set(map(len, points.values()))) > 1:
        return f"the points have columns of {sorted({len(column) for column in points.values()})} values: must agree"
    for name, column in points.items():
        whole = name in ("member", "step")
        if column and not set(map(type, column)) <= {int if whole else float}:
            return f"points: {name!r} must hold {'whole numbers' if whole else 'floats'} alone"
        if column and whole and not 0 <= min(column) <= max(column) < (len(runs) if name == "member" else FAR):
            return f"points: {name!r} holds {quoted(min(column))} to {quoted(max(column))}: outside what there is"
    return None


def reason(error: BaseException) -> str:
    """Why an attempt failed, in one line that any file and terminal can take."""
    kind = type(error).__name__
    if isinstance(error, SystemExit):
        return f"SystemExit: the training called sys.exit({_shown(error.code)})"
    try:
        said = str(error)
    except Exception:  # of the user's own class
        said = "(its message cannot be read)"
    return plain_text(f"{kind}: {said}"[: 2 * LONGEST_REASON].replace("\n", " "))[:LONGEST_REASON]


def plain_text(text: str) -> str:
    """``text`` without what UTF-8 cannot hold (halves of surrogate pairs), which Arrow would refuse."""
    return text.encode("utf-8", "replace").decode()


def _number(value: object, where: str) -> float:
    """``value`` as a float, which may be NaN or infinite."""
    if type(value) is float:
        return value
    if not _is_scalar(value):
        raise BadRecordError(f"{where} = {_shown(value)}: must be a number")
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise BadRecordError(f"{where} = {_shown(value)}: must be a number ({reason(error)})") from None


def _finite(value: object, name: str, where: str) -> float:
    number = value if type(value) is float else _number(value, f"{where}.{name}")
    if not math.isfinite(number):
        raise BadRecordError(f"{where}.{name} = {number}: must be finite")
    return number


def _steps(value: object, where: str) -> int:
    number = value if type(value) is int else _whole(value, where)
    if not 0 <= number < FAR:
        raise BadRecordError(f"{where} = {quoted(number)}: must be at least 0 and below 2^63")
    return number


def _whole(value: object, where: str) -> int:
    number = _number(value, where)
    if not number.is_integer() or abs(number) >= 2**53:
        raise BadRecordError(f"{where} = {_shown(value)}: must be a whole number")
    return int(number)


def _is_scalar(value: object) -> bool:
    """Whether ``value`` is a number of Python or NumPy, or an array or a tensor without dimensions."""
    if isinstance(value, bool | str | bytes | bytearray) or value is None:
        return False
    return isinstance(value, int | float) or (hasattr(value, "__float__") and getattr(value, "ndim", None) == 0)


def _picker(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """A function that takes the values of these names out of a mapping, in this order."""
    if len(names) > 1:
        return itemgetter(*names)  # the quickest; of one name it gives no tuple
    return lambda values: tuple(values[name] for name in names)


def _shown(value: object) -> str:
    """The value as a message shows it, whatever its ``repr`` does."""
    try:
        return quoted(value, LONGEST_LINE // 2)
    except Exception:  # of the user's own class
        return f"a {type(value).__name__}"
