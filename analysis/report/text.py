"""Numbers as a reader sees them: a value with its interval, never one without the other where there is one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from analysis.statistics.intervals import Estimate

NONE = "–"


def share(estimate: Estimate) -> str:
    """``79 % [68, 87]``: a share with its 95 % interval in per cent."""
    return share_cell({"x": estimate.value, "x_low": estimate.low, "x_high": estimate.high}, "x")


def number(estimate: Estimate) -> str:
    """``-0.0021 [-0.0034, -0.0009]``: a value with its 95 % interval, three significant digits."""
    return number_cell({"x": estimate.value, "x_low": estimate.low, "x_high": estimate.high}, "x")


def known(value: Any) -> bool:
    """Whether ``value`` is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def share_cell(row: Mapping[str, Any], name: str) -> str:
    """The share ``row[name]`` with the interval ``{name}_low``, ``{name}_high``, in per cent."""
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if not known(value):
        return NONE
    return f"{_per_cent(value)} %" + (f" [{_per_cent(low)}, {_per_cent(high)}]" if known(low) and known(high) else "")


def number_cell(row: Mapping[str, Any], name: str, digits: int = 3) -> str:
    """The number ``row[name]`` with the interval ``{name}_low``, ``{name}_high``, to ``digits`` significant digits."""
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None or not known(value):
        return NONE
    if low is None or high is None or not (known(low) and known(high)):
        return _plain(value, digits, abs(value))
    size = max(abs(value), abs(low), abs(high))  # of all three, so that they have the same decimals
    return f"{_plain(value, digits, size)} [{_plain(low, digits, size)}, {_plain(high, digits, size)}]"


def p_cell(value: Any) -> str:
    """A p-value: three digits, ``< 0.001`` below."""
    if not known(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def word_cell(value: Any) -> str:
    """A word, a count or a yes/no."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _per_cent(value: Any) -> str:
    return f"{100 * value:.0f}"


def _plain(value: Any, digits: int, size: Any) -> str:
    """As many decimals as a number of magnitude ``size`` needs for ``digits`` digits, and no needless exponent."""
    if value == 0:
        return "0"
    if 1e-5 <= size < 1e6:
        return f"{value:.{max(0, digits - 1 - math.floor(math.log10(size)))}f}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")
