"""Ray Tune's search-space objects as starts of a spec.

Ray is not imported: an object of Tune's can only be there if somebody else has imported it. What a spec keeps of it,
and what its hash covers, are a name and numbers.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from service.errors import SpecError
from trainers.bounds import MOST_ENTRIES
from trainers.errors import quoted, shortened

HOME = "ray.tune.search.sample"  # where the classes of Tune's objects are defined
GRID = "grid_search"  # Tune's mark of a grid: a mapping with this key
ALLOWED = "a table with one of uniform, loguniform, normal and choice, such as { normal = [-4, 0.5] }"
OF_TUNE = "tune.uniform, tune.loguniform, tune.randn, tune.choice or tune.randint"
NO_GRID = "a grid is no distribution of a start: ask for the arm 'grid', with grid.points"
NO_CODE = "a function cannot be hashed, so no run's id would tell what it draws; use a distribution"


def as_table(start: object, where: str) -> object:
    """What stands for ``start`` in a spec's file: a table as it is, an object of Tune's as the table of the same law.

    Raises :class:`SpecError`, which names ``where`` it stands, for what is neither, and for what cannot be a start.
    """
    sample = sys.modules.get(HOME)
    if isinstance(start, Mapping):
        if GRID in start:
            raise SpecError(f"{where}.{GRID}: {NO_GRID}")
        if "sample_from" in start:
            raise SpecError(f"{where}.sample_from: {NO_CODE}")
        return start
    if sample is not None and isinstance(start, sample.Domain):
        return _table_of(start, sample, where)
    if callable(start):
        raise SpecError(f"{where} = {quoted(start)}: {NO_CODE}")
    raise SpecError(f"{where} = {quoted(start)}: must be {ALLOWED}, or in Python {OF_TUNE}")


def _table_of(domain: Any, sample: ModuleType, where: str) -> dict[str, list[Any]]:
    """The law of a ``Domain`` of Tune's by its name; ``sample`` is the module that defines it."""
    sampler = domain.get_sampler()
    shown = f"tune's {type(sampler).__name__.strip('_')} over {type(domain).__name__}{domain.domain_str}"
    if isinstance(domain, sample.Function):
        raise SpecError(f"{where} = tune.sample_from(…): {NO_CODE}")
    if isinstance(sampler, sample.Grid):
        raise SpecError(f"{where} = {shown}: {NO_GRID}")
    if isinstance(domain, sample.Categorical) and isinstance(sampler, sample.Uniform):
        return {"choice": [_number(value) for value in domain.categories]}
    if isinstance(domain, sample.Integer) and isinstance(sampler, sample.Uniform):  # the upper end is not drawn
        upper = min(domain.upper, domain.lower + MOST_ENTRIES + 1)  # what is longer is refused as a choice
        return {"choice": [float(value) for value in range(domain.lower, upper)]}
    if isinstance(domain, sample.Float):
        ends = [_number(domain.lower), _number(domain.upper)]
        if isinstance(sampler, sample.Normal) and all(map(math.isinf, ends)):
            return {"normal": [_number(sampler.mean), _number(sampler.sd)]}
        if isinstance(sampler, sample.Uniform):
            return {"uniform": ends}
        if isinstance(sampler, sample.LogUniform):
            return {"loguniform": ends}
    raise SpecError(f"{where} = {shortened(shown)}: must be {OF_TUNE}; of others name the values with tune.choice")


def _number(value: Any) -> Any:
    """A number of NumPy's as one of Python's; anything else as it is, for the check of the spec to name."""
    return value.item() if isinstance(value, np.generic) else value
