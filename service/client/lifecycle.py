"""A study whose driver runs in another process: create it for that driver, or discard it."""

from __future__ import annotations

from pathlib import Path

from service.errors import StorageError, StudyError
from service.records.manifest import MANIFEST, Manifest, find_study
from service.records.progress import PROGRESS
from service.spec.plan import make_plan
from service.spec.study_spec import StudySpec
from service.storage.files import open_storage
from service.storage.lease import LEASE


def create_study(spec: StudySpec, uri: str) -> bool:
    """Write the ``study.json`` of a study that a driver elsewhere will run; False if the study is there already.

    Neither the data nor the trainer are looked at: they may be at hand where the driver runs only.

    Raises:
        StudyError: another study is there, something else is, or the place cannot be written. Nothing is left behind.
    """
    storage = open_storage(uri, tries=2)
    spec, manifest = find_study(spec, storage)
    if manifest is not None:
        return False
    manifest = Manifest.of(make_plan(spec))
    before = storage.nearest_directory()
    try:
        manifest.save(storage)
    except StorageError as error:
        storage.remove_empty(keep=before)
        raise StudyError(f"{uri}: cannot be written ({error}); give a place where this user may write") from None
    return True


def discard_study(uri: str, keep: Path | None = None) -> None:
    """Remove a study of which nothing has been trained, and empty directories above it up to ``keep``.

    Raises:
        StudyError: it has results, which are never thrown away.
    """
    storage = open_storage(uri)
    if any(storage.files(f"ledger/{table}") for table in ("runs", "attempts")) or storage.exists("runs.parquet"):
        raise StudyError(f"{uri}: holds results; a study with results is not discarded")
    for name in (LEASE, PROGRESS, *storage.files("events"), *storage.files("control"), MANIFEST):
        storage.delete(name)
    storage.remove_empty(keep)
