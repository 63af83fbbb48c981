"""Export a study: what it can be exported to, and where that appears once it is whole."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

import pandas as pd

from analysis.exports.selection import Selection
from analysis.files import StudyError
from analysis.study import Study

# write(selection, folder, place): write into ``folder``, which will be called ``place``; returns how to open it.
Write = Callable[[Selection, Path, Path], str]
# Name of the target -> the file of this folder, and the extra that it needs.
_TARGETS = {
    "optuna": ("optuna", "optuna"),
    "mlflow": ("mlflow", "mlflow"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "wandb-offline": ("wandb", "wandb"),
    "csv": ("tables", None),
    "huggingface": ("huggingface", None),
}
TARGETS = tuple(_TARGETS)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was exported: the directory, the number of runs in it, and what opens it: a command or a line of Python."""

    place: Path
    runs: int
    opened_by: str


def export_study(study: Study, to: str, out: str | Path, runs: pd.DataFrame | None = None) -> Exported:
    """Write ``runs`` of ``study`` (by default all) as the directory ``out`` for the tool ``to``, one of ``TARGETS``.

    ``runs`` are rows of ``study.runs``; their trajectories and attempts go with them, read as a stream. The directory
    appears when it is whole: where something goes wrong, nothing is left.

    Raises:
        StudyError: the tool is not known or a package for it is missing; no run was chosen; ``out`` is no path on
            this machine, is there already and not empty, or cannot be written.
    """
    module, extra = _target(to)
    chosen = study.runs if runs is None else runs
    if chosen.empty:
        raise StudyError(f"{study.location}: no run was chosen: at least one is needed")
    place = _free(out)
    absent = [parent for parent in place.parents if not parent.exists()]
    partial = place.with_name(f".{place.name}-{secrets.token_hex(4)}")
    try:
        write: Write = import_module(f"analysis.exports.{module}").write  # which imports what the tool is
        partial.mkdir(parents=True)
        opened_by = write(Selection(study=study, frame=chosen), partial, place)
        partial.rename(place)  # over an empty directory, too
    except ImportError as error:
        if extra is None:
            raise
        raise StudyError(f"--to {to}: needs {error.name}; install it by: pip install 't1t2-study[{extra}]'") from error
    except OSError as error:
        raise StudyError(f"--out {str(out)!r}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in absent:  # the deepest first; none is empty where the export is done
            with suppress(OSError):
                parent.rmdir()
    return Exported(place=place, runs=len(chosen), opened_by=opened_by)


def _target(to: str) -> tuple[str, str | None]:
    """The file that writes for the tool ``to``, and its extra; raises StudyError where there is no such tool."""
    if to not in _TARGETS:
        near = get_close_matches(to, TARGETS, n=1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        raise StudyError(f"--to {to!r}: must be one of {', '.join(TARGETS)}{guess}")
    return _TARGETS[to]


def _free(out: str | Path) -> Path:
    """``out`` as an absolute path; raises StudyError where something is there."""
    if "://" in str(out):
        raise StudyError(f"--out {str(out)!r}: must be a directory on this machine; copy it to a store afterwards")
    place = Path(os.path.expanduser(out)).absolute()  # Path.expanduser raises for an unknown user
    try:
        if place.exists() and not (place.is_dir() and not any(place.iterdir())):
            raise StudyError(f"--out {str(out)!r}: is there already: must be a new or an empty directory")
    except OSError as error:
        raise StudyError(f"--out {str(out)!r}: cannot be read ({error.strerror})") from error
    return place
