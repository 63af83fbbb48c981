"""The summary table that ends ``t1t2 run``: the study's main statistics, a column for each model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from service.cli.console import console


def print_summary(summary: dict[str, Any]) -> None:
    """Print the main figures among a study's statistics, see :func:`analysis.summarise`."""
    from rich.table import Table

    table = Table("95 % intervals in brackets", box=None, pad_edge=False)
    for model in summary["models"]:
        table.add_column(model)
    for label, *values in summary_rows(summary):
        table.add_row(label, *values)
    screen = console()
    screen.print()
    screen.print(table, markup=False)
    screen.print()


def summary_rows(summary: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The rows of the table: a label, then a text for each model. What the study does not allow is an en dash."""
    models: dict[str, dict[str, Any]] = summary["models"]

    def row(label: str, text: Callable[[str, dict[str, Any]], str]) -> tuple[str, ...]:
        return label, *(_or_dash(text, name, values) for name, values in models.items())

    yield row("optimal region, share of the box", lambda _, m: _volume(m["region"]["t2_loss"]))
    yield row("  online runs that start in it", lambda _, m: _share(m["region"]["t2_loss"]["shares"]["start"]))
    yield row("  online runs that end in it", lambda _, m: _share(m["region"]["t2_loss"]["shares"]["end"]))
    for name in dict.fromkeys(
        line["along"]
        for values in models.values()
        for line in _records(values["contraction"])
        if not line["along"].startswith("direction") and line["along"] not in ("sensitive", "flat")
    ):
        yield row(f"spread of {name}, end / start", partial(_spread, name))
    for outcome in ("good→good", "bad→good", "bad→bad", "good→bad"):
        yield row(f"initial → rerun, {outcome}", partial(_outcome, outcome))
    yield row("test loss, rerun − online", lambda _, m: _difference(m["diagonal"]["online_rerun"]["test_loss"]))
    yield row("time, online / initial", lambda model, _: _ratio(_find(summary["overhead"], model=model), "ratio"))


def _volume(region: dict[str, Any]) -> str:
    return f"{region['volume']:.1%}" + ("" if region["discriminates"] else ", too large to tell")


def _spread(name: str, _: str, values: dict[str, Any]) -> str:
    return _ratio(_find(values["contraction"], along=name), "std_ratio")


def _outcome(outcome: str, _: str, values: dict[str, Any]) -> str:
    return _share(_find(values["improvement"]["rerun"]["split"], outcome=outcome), "share")


def _find(lines: list[dict[str, Any]], **wanted: str) -> dict[str, Any]:
    ((key, value),) = wanted.items()
    return next(line for line in lines if line[key] == value)


def _records(value: Any) -> list[dict[str, Any]]:
    return value if isinstance(value, list) else []  # else {"not_computable": why}


def _or_dash(text: Callable[[str, dict[str, Any]], str], name: str, values: dict[str, Any]) -> str:
    try:
        return text(name, values)
    except (KeyError, TypeError, StopIteration):  # {"not_computable": why} in its place; the report says why
        return "–"


def _share(estimate: dict[str, Any], value: str = "value") -> str:
    return f"{estimate[value]:.0%} [{estimate['low']:.0%}, {estimate['high']:.0%}] of {estimate['n']}"


def _ratio(line: dict[str, Any], key: str) -> str:
    low, high = ("low", "high") if "low" in line else (f"{key}_low", f"{key}_high")
    return f"{line[key]:.2f} [{line[low]:.2f}, {line[high]:.2f}]"


def _difference(line: dict[str, Any]) -> str:
    estimate = line["mean_difference"]
    verdict = ", equivalent" if line["equivalent"] else ""
    return f"{estimate['value']:+.4f} [{estimate['low']:+.4f}, {estimate['high']:+.4f}]{verdict}"
