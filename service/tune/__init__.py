"""What speaks to Ray Tune: T1-T2 as a trainable, Tune's search spaces in specs, and rivals at equal compute.

The names below are loaded when first used; ``import service`` loads none of this.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_HOMES = {
    "service.tune.function": ("online_function",),
    "service.tune.trainable": ("OnlineTrainable",),
    "service.tune.trials": ("param_space", "starts"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = list(_HOME_OF)

if TYPE_CHECKING:
    from service.tune.function import online_function as online_function
    from service.tune.trainable import OnlineTrainable as OnlineTrainable
    from service.tune.trials import param_space as param_space
    from service.tune.trials import starts as starts
else:

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'service.tune' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME_OF[name]), name)
