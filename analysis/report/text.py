"""Numbers as a reader sees them: a value always stands with its interval where it has one.

They are rounded first to the digits that ``summary.json`` holds, so that the page and the file never disagree.
"""

from __future__ import annotations

import math

from analysis.statistics.intervals import Estimate, unknown
from analysis.statistics.records import significant

NONE = "–"


def share(value: Estimate | float | None) -> str:
    """``79 % [68, 87]``: a share in per cent, with its 95 % interval where it has one."""
    known, low, high = _rounded(value)
    if known is None:
        return NONE
    return f"{_per_cent(known)} %" + ("" if low is None or high is None else f" [{_per_cent(low)}, {_per_cent(high)}]")


def number(value: Estimate | float | None, digits: int = 3) -> str:
    """``−0.0021 [−0.0034, −0.0009]``: a number to ``digits`` significant digits, with its 95 % interval if any."""
    known, low, high = _rounded(value)
    if known is None:
        return NONE
    if low is None or high is None:
        return _plain(known, digits, abs(known))
    size = max(abs(known), abs(low), abs(high))  # of all three, so that they have the same decimals
    return f"{_plain(known, digits, size)} [{_plain(low, digits, size)}, {_plain(high, digits, size)}]"


def p_value(value: float | None) -> str:
    """A p-value: three digits, ``< 0.001`` below."""
    known, _, _ = _rounded(value)
    if known is None:
        return NONE
    return "< 0.001" if known < 0.001 else f"{known:.3f}"


def word(value: str | float | bool | None) -> str:
    """A word, a count or a yes/no."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _rounded(value: Estimate | float | None) -> tuple[float | None, float | None, float | None]:
    """The value and the bounds of its interval; None for what is not a finite number."""
    estimate = unknown() if value is None else value
    if not isinstance(estimate, Estimate):
        return significant(estimate), None, None
    return significant(estimate.value), significant(estimate.low), significant(estimate.high)


def _per_cent(value: float) -> str:
    return f"{100 * value:.0f}"


def _plain(value: float, digits: int, size: float) -> str:
    """As many decimals as a number of magnitude ``size`` needs for ``digits`` digits, and no needless exponent."""
    if value == 0:
        return "0"
    if 1e-5 <= size < 1e6:
        return f"{value:.{max(0, digits - 1 - math.floor(math.log10(size)))}f}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")
