"""Symbolic links in a storage root on a disk: what they lead to may be no part of the studies, and is not served."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from service.errors import StudyError, StudyNotFoundError
from trainers.errors import LONGEST_LINE, quoted


def local_root(storage: str) -> Path | None:
    """The directory that the storage root is; None in an object store, which has no links."""
    scheme = storage.partition("://")[0] if "://" in storage else ""
    if scheme not in ("", "file"):
        return None
    return Path(os.path.abspath(url2pathname(urlsplit(storage).path) if scheme else os.path.expanduser(storage)))


def check_root(storage: str) -> None:
    """Raise :class:`service.StudyError` for a directory that is not there: nothing would ever be seen in it."""
    root = local_root(storage)
    if root is not None and not root.is_dir():
        raise StudyError(
            f"storage {quoted(storage, LONGEST_LINE)}: there is no such directory; give the one that the studies are "
            "in, or make it first"
        )


def check_links(storage: str, name: str) -> None:
    """Raise :class:`service.errors.StudyNotFoundError` for a study that lies elsewhere, or has links in it."""
    root = local_root(storage)
    if root is None:
        return
    study = root / name
    if not Path(os.path.realpath(study)).is_relative_to(os.path.realpath(root)):
        raise StudyNotFoundError(f"{name}: is a link out of {root}, and is not followed")
    for directory in (study, study / "events", study / "control"):
        try:
            links = [entry.name for entry in os.scandir(directory) if entry.is_symlink()]
        except (FileNotFoundError, NotADirectoryError):
            continue
        if links:
            raise StudyNotFoundError(f"{name}: holds symbolic links ({min(links)}), and is not served")
