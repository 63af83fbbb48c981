"""A study without a driver in this process: created for one that is to come, discarded, or found to have one."""

from __future__ import annotations

import os
from pathlib import Path

from service.errors import StorageError, StudyError
from service.records.progress import MANIFEST, PROGRESS, StudyStatus
from service.spec.study_spec import StudySpec
from service.storage.files import Storage
from service.storage.lease import LEASE


def is_driven(status: StudyStatus) -> bool:
    """Whether a driver works on the study now; :func:`service.read_status` has looked for its sign of life."""
    return status.state in ("running", "paused")


def create_study(spec: StudySpec, uri: str) -> bool:
    """Write the ``study.json`` of a study that a driver elsewhere will run; False if the study is there already.

    Neither the data nor the trainer are looked at: they may be at hand where the driver runs only.

    Raises:
        StudyError: another study is there, something else is, or the place cannot be written. Nothing is left behind.
    """
    from service.driver.run import _create_or_load
    from service.spec.plan import make_plan

    storage = Storage(uri, tries=2)
    spec, study = _create_or_load(spec, storage)
    if storage.exists(MANIFEST):
        return False
    study["planned"] = make_plan(spec, study["pack_size"]).planned()
    is_new = storage.is_local and not os.path.exists(storage.root)
    try:
        storage.write_json(MANIFEST, study)
    except (OSError, StorageError) as error:
        if is_new and os.path.isdir(storage.root):
            os.rmdir(storage.root)
        raise StudyError(f"{uri}: cannot be written ({error}); give a place where this user may write") from None
    return True


def nearest_directory(uri: str) -> Path | None:
    """The directory at ``uri`` or nearest above it that is there; None in an object store, which has none."""
    storage = Storage(uri)
    if not storage.is_local:
        return None
    root = Path(storage.root).absolute()
    return next(path for path in (root, *root.parents) if path.is_dir())


def discard_study(uri: str, keep: Path | None = None) -> None:
    """Remove a study of which nothing has been trained, and empty directories above it up to ``keep``.

    Raises:
        StudyError: it has results, which are never thrown away.
    """
    storage = Storage(uri)
    if any(storage.files(f"ledger/{table}") for table in ("runs", "attempts")) or storage.exists("runs.parquet"):
        raise StudyError(f"{uri}: holds results; a study with results is not discarded")
    for name in (LEASE, PROGRESS, *storage.files("events"), *storage.files("control"), MANIFEST):
        storage.delete(name)
    if storage.is_local:
        for directory, _, files in os.walk(storage.root, topdown=False):
            if not files and not os.listdir(directory):
                os.rmdir(directory)
        above = Path(storage.root).absolute().parent
        while keep in above.parents and above.is_dir() and not any(above.iterdir()):
            above.rmdir()
            above = above.parent
