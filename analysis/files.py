"""The files of a study, found and checked: what is damaged is named, and what mends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from analysis.checksums import UNREADABLE, damage
from analysis.study_json import verified

SCHEMA_VERSION = 1  # the newest layout that this reader knows
TABLES = ("runs", "trajectories", "attempts")
Files = dict[str, dict[str, list[str]]]  # table -> {"top": the published file, "shards": those of a running study}


class StudyError(ValueError):
    """A study that cannot be read; the message names the place, what is wrong, and what is expected there."""


def open_location(location: str | Path) -> tuple[pafs.FileSystem, str, str]:
    """The file system, the path in it, and the location as it was given; raises StudyError."""
    text = str(location)
    try:
        if "://" in text:
            filesystem, root = pafs.FileSystem.from_uri(text)
        else:
            filesystem, root = pafs.LocalFileSystem(), str(Path(text).expanduser().resolve())
        kind = filesystem.get_file_info(root).type
    except (pa.ArrowInvalid, OSError) as error:
        raise StudyError(f"{text}: not a directory or object-store URI that can be opened: {error}") from error
    if kind == pafs.FileType.File:
        raise StudyError(f"{text}: a file; the study's directory is expected")
    if kind == pafs.FileType.NotFound:
        raise StudyError(f"{text}: there is nothing here; a study's directory is expected")
    return filesystem, root.rstrip("/"), text


def below(location: str, name: str) -> str:
    """What users call the directory ``name`` in ``location``: the options of a URI stay at its end."""
    place, mark, options = location.partition("?") if "://" in location else (location, "", "")
    return f"{place.rstrip('/')}/{name}{mark}{options}"


def has_runs(filesystem: pafs.FileSystem, root: str) -> bool:
    """Whether the directory ``root`` holds a published table of runs, or a shard of one."""
    if filesystem.get_file_info(f"{root}/runs.parquet").type == pafs.FileType.File:
        return True
    shards = filesystem.get_file_info(pafs.FileSelector(f"{root}/ledger/runs", allow_not_found=True))
    return any(found.path.endswith(".parquet") for found in shards)


def read_info(filesystem: pafs.FileSystem, root: str, shown: str) -> dict[str, Any]:
    """``study.json``; empty where there is none. Raises StudyError for a damaged one."""
    path = f"{root}/study.json"
    if filesystem.get_file_info(path).type != pafs.FileType.File:
        return {}
    with filesystem.open_input_stream(path) as stream:
        content = stream.read()
    try:
        info = verified(content)
    except ValueError as error:
        raise StudyError(f"{shown}/study.json: is damaged ({error})") from error
    if not isinstance(info.get("spec", {}), dict):
        raise StudyError(f'{shown}/study.json: an object with the spec under "spec" is expected')
    check_version(info.get("schema_version", SCHEMA_VERSION), shown)
    return info


def check_version(version: Any, shown: str) -> None:
    """Raise StudyError if a file was written in a version that this reader does not know."""
    try:
        known = int(version) <= SCHEMA_VERSION
    except (TypeError, ValueError):
        known = False
    if not known:
        raise StudyError(f"{shown}: schema_version = {version!r}: this version reads up to {SCHEMA_VERSION}")


def list_files(filesystem: pafs.FileSystem, root: str, shown: str, info: dict[str, Any]) -> tuple[Files, list[str]]:
    """The files of each table, and the names of damaged shards, which are left out; every shard has been checked."""
    files: Files = {}
    damaged = []
    for table in TABLES:
        path = f"{root}/{table}.parquet"
        top = [path] if filesystem.get_file_info(path).type == pafs.FileType.File else []
        selector = pafs.FileSelector(f"{root}/ledger/{table}", allow_not_found=True)
        shards = []
        for found in sorted(i.path for i in filesystem.get_file_info(selector) if i.path.endswith(".parquet")):
            name = found.removeprefix(f"{root}/")
            with filesystem.open_input_file(found) as source:
                if damage(source, info.get("study_hash"), name, has_checksum=False):
                    damaged.append(name)
                else:
                    shards.append(found)
        files[table] = {"top": top, "shards": shards}
    return files, damaged


def check_published(
    filesystem: pafs.FileSystem, path: str, shown: str, info: dict[str, Any], whole: bool = False
) -> None:
    """Raise StudyError if the published table at ``path`` is damaged.

    On a disk the content of pages is left to their own checksums, unless ``whole``; from an object store, where each
    header would be a request, all is read.
    """
    name = path.rpartition("/")[2]
    tables = info.get("tables")
    checksums = tables.get("sha256") if isinstance(tables, dict) else None
    has_checksum = isinstance(checksums, dict) and name.removesuffix(".parquet") in checksums
    try:
        with filesystem.open_input_file(path) as source:
            frame_alone = not whole and isinstance(filesystem, pafs.LocalFileSystem)
            reason = damage(source, info.get("study_hash"), name, has_checksum, frame_alone)
    except UNREADABLE as error:
        raise StudyError(f"{shown}/{name}: cannot be opened ({error})") from error
    if reason:
        raise StudyError(
            f"{shown}/{name}: is damaged ({reason}); `t1t2 verify` says what is sound, `t1t2 resume` makes it anew"
        )
