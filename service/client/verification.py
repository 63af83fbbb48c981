"""Reads everything that a study consists of, and says what is sound, what is damaged, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from service.errors import DamagedFileError
from service.executors.checkpoints import is_checked
from service.ledger.checksums import UNREADABLE, is_checksummed, one_line, opened_whole, sha256_of
from service.ledger.schema import TABLES, check_version
from service.ledger.shards import TableFile, check_origin
from service.records.events import DAMAGED, segment_events
from service.records.manifest import MANIFEST, Manifest
from service.records.progress import PROGRESS
from service.storage.checked_json import CHECKSUM, loads_checked
from service.storage.files import Storage, open_storage
from service.storage.lease_record import CLAIMS, LEASE

Verdict = Literal["sound", "damaged", "not checksummed"]


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was found of one file. One that is not checksummed was written by an earlier version, and can be read."""

    path: str
    verdict: Verdict
    reason: str = ""  # of damage
    repair: str = ""


def verify_study(uri: str) -> Iterator[Examined]:
    """Examine every file of the study, one after the other; nothing is changed.

    A study that is being driven has files that come and go: one that is gone when its turn comes is passed over.
    Raises StudyNotFoundError if there is no study, StorageError if the storage fails.
    """
    storage = open_storage(uri)
    manifest: Manifest | None = None
    try:
        manifest = Manifest.load(storage)
    except DamagedFileError as error:
        yield Examined(path=MANIFEST, verdict="damaged", reason=error.reason, repair=error.remedy)
    else:
        yield _judged("", MANIFEST, _is_checked_json, storage, MANIFEST, None)
    yield from _tables(storage, manifest)
    yield from _small_files(storage, manifest)


def _tables(storage: Storage, manifest: Manifest | None) -> Iterator[Examined]:
    """Published tables and shards."""
    resume = f"`t1t2 resume {storage.uri}`"
    for table in TABLES:
        again = "what is known of its runs is written anew" if table == "attempts" else "its runs are trained again"
        published = TableFile(table)
        if storage.exists(published.path):
            repair = f"{resume}: the table is made anew, and {again}"
            yield _judged(repair, published.path, _is_checked_table, storage, published, manifest)
        elif manifest and manifest.tables:
            repair = f"{resume}: the table is made anew"
            yield Examined(path=published.path, verdict="damaged", reason="it is missing", repair=repair)
        for path in storage.files(f"ledger/{table}", ".parquet"):
            shard = TableFile(table, path.rpartition("/")[2])
            repair = f"{resume}: {again}"
            if storage.exists(path):
                yield _judged(repair, path, _is_checked_table, storage, shard, manifest)


def _small_files(storage: Storage, manifest: Manifest | None) -> Iterator[Examined]:
    """Checkpoints, and what the driver says and is told."""
    for path in storage.files("checkpoints", ".zip"):
        yield _judged("none needed: its pack starts again", path, _is_checked_checkpoint, storage, path)
    study_hash = manifest.study_hash if manifest else None
    for path in (PROGRESS, LEASE, *storage.files(CLAIMS)):
        if storage.exists(path):
            repair = "none needed: the next driver writes it anew"
            yield _judged(repair, path, _is_checked_json, storage, path, study_hash)
    for path in storage.files("control", ".json"):
        repair = "none needed: it is passed over; ask again"
        yield _judged(repair, path, _is_checked_json, storage, path, None)
    for path in storage.files("events", ".jsonl"):
        repair = "none: what can be read is shown, and nothing else depends on it"
        yield _judged(repair, path, _are_checked_events, storage, path, study_hash)


def _judged(repair: str, path: str, check: Callable[..., bool], *arguments: object) -> Examined:
    """What ``check`` finds: it tells whether a file has a checksum, and raises DamagedFileError."""
    try:
        return Examined(path=path, verdict="sound" if check(*arguments) else "not checksummed")
    except FileNotFoundError:
        return Examined(path=path, verdict="sound")  # a driver has taken it away meanwhile
    except DamagedFileError as error:
        return Examined(path=path, verdict="damaged", reason=error.reason, repair=repair)


def _is_checked_table(storage: Storage, file: TableFile, manifest: Manifest | None) -> bool:
    """Whether a Parquet file has a checksum, which fits; raises DamagedFileError."""
    checksum = (manifest.checksums if manifest else {}).get("" if file.shard else file.table)
    with storage.open(file.path) as source:
        parquet = opened_whole(source, file.path)
        check_version(parquet.schema_arrow, f"{storage.uri}/{file.path}")
        if is_checksummed(parquet.schema_arrow):
            check_origin(parquet.schema_arrow, manifest.study_hash if manifest else None, file, file.path)
            if checksum not in (None, sha256_of(source)):
                reason = (
                    f"it is whole, but not the file that {MANIFEST} names: a publication was cut off, or is under way"
                )
                raise DamagedFileError(file.path, reason)
            return True
        if checksum is not None:
            raise DamagedFileError(file.path, "its checksum is missing")
        try:
            for group in range(parquet.num_row_groups):
                parquet.read_row_group(group)
        except UNREADABLE as error:
            raise DamagedFileError(file.path, one_line(error)) from error
    return False


def _is_checked_checkpoint(storage: Storage, path: str) -> bool:
    return is_checked(path, storage.read(path))


def _is_checked_json(storage: Storage, path: str, study_hash: str | None) -> bool:
    """Whether a JSON file has a checksum, which fits; raises DamagedFileError, for another study's as well."""
    content = storage.read(path)
    values = loads_checked(content, path)
    status = values.get("status")
    found = status.get("study_hash") if isinstance(status, dict) else None
    if study_hash is not None and found not in (None, study_hash):
        raise DamagedFileError(path, "it belongs to another study")
    return f'"{CHECKSUM}"'.encode() in content[-len(CHECKSUM) - 80 :]


def _are_checked_events(storage: Storage, path: str, study_hash: str | None) -> bool:
    content = storage.read(path)
    damage = [event.message for event in segment_events(content, path, study_hash) if event.kind == DAMAGED]
    if damage:
        raise DamagedFileError(path, damage[0])
    return f'"{CHECKSUM}"'.encode() in content
