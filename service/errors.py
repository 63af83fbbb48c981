"""What can go wrong with a study, by what the user can do about it."""

from __future__ import annotations


class StudyError(ValueError):
    """Bad input. The message is complete: it names the value, what is allowed, and where."""


class SpecError(StudyError):
    """A spec that cannot be used."""


class AnotherStudyError(StudyError):
    """The directory, or the name, holds a study of another spec; ``differences`` has one line for each key."""

    def __init__(self, message: str, differences: list[str]) -> None:
        super().__init__("\n".join([message, *(f"  {line}" for line in differences)]))
        self.differences = differences


class StudyBusyError(StudyError):
    """Another driver is running this study."""


class TakenOverError(StudyBusyError):
    """Another driver has taken over the study that this one was running, which it thought dead."""


class StudyNotFoundError(StudyError):
    """There is no study at this place."""


class NewerSchemaError(StudyError):
    """The files were written by a newer version of this package."""


class DamagedFileError(StudyError):
    """A file's content is not what was written.

    ``where`` is its path or URI, ``reason`` what is wrong with it, and ``remedy`` what mends it.
    """

    def __init__(self, where: str, reason: str, remedy: str = "") -> None:
        super().__init__(f"{where}: is damaged ({reason}){remedy and f'; {remedy}'}")
        self.where, self.reason, self.remedy = where, reason, remedy


class ResourceError(StudyError):
    """An actor asks for resources that no node of the cluster has."""


class FileChangedError(Exception):
    """A file was not replaced, because it is not the version any more that it was to replace."""


class StorageError(OSError):
    """The storage went on failing after retries. What was committed stays; the study can be resumed."""
