"""Removing a study of which nothing has been trained, so that a corrected spec may take its place."""

from __future__ import annotations

from service.errors import StudyError
from service.records.manifest import MANIFEST
from service.records.progress import PROGRESS
from service.storage.files import Storage


def discard_untrained(storage: Storage) -> None:
    """Remove the files of a study of which nothing has been trained, but for its lease, which its holder releases.

    Raises :class:`service.StudyError` if it has results, which are never thrown away.
    """
    if any(storage.files(f"ledger/{table}") for table in ("runs", "attempts")) or storage.exists("runs.parquet"):
        raise StudyError(f"{storage.uri}: holds results; a study with results is not discarded")
    for name in (PROGRESS, *storage.files("events"), *storage.files("control"), MANIFEST):
        storage.delete(name)
