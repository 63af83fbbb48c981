"""Small studies of trainers that take no time, made without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from service import StudySpec, StudyStatus, run_study
from service.executors.serial import SerialExecutor

TOY: dict[str, Any] = {
    "name": "toy",
    "seed": 7,
    "configurations": 3,
    "trainer": "tests.service.toy:train",
    "arms": ["initial", "online", "rerun", "grid"],
    "grid": {"points": {"log10_l2": 2, "input_noise_std": 2}, "replicates": 2},
    "models": [{"hidden": [8]}, {"hidden": [16]}],
    "inner": {"steps": 100},
}


def run_toy(out: Path | str, **changes: Any) -> StudyStatus:
    """Run :data:`TOY`, changed, in this process."""
    return run_study(StudySpec.from_dict({**TOY, **changes}), out, executor=SerialExecutor())


def toml(values: dict[str, Any]) -> str:
    """A spec's mapping as TOML (scalars, lists and tables, all inline)."""
    return "".join(f"{key} = {_inline(value)}\n" for key, value in values.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_inline(item)}' for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value).replace("'", '"') if isinstance(value, str) else repr(value)
