"""From a JSON file to a dataclass: what is missing or of another type is one error that names the file and the keys."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from service.errors import StudyError

T = TypeVar("T")


def parse(kind: type[T], content: bytes, where: str) -> T:
    """The JSON object ``content`` of the file ``where`` as a ``kind``; keys that ``kind`` does not know are ignored.

    Raises:
        StudyError: it is no JSON, or lacks keys of ``kind``, or has values of other types.
    """
    try:
        record: T = _adapter(kind).validate_json(content, strict=True)  # type: ignore[arg-type]  # a class is hashable
    except ValidationError as error:
        raise StudyError(f"{where}: is damaged ({'; '.join(_reasons(error))})") from None
    return record


def _reasons(error: ValidationError) -> list[str]:
    details = error.errors(include_url=False, include_context=False)
    if any(not detail["loc"] for detail in details):  # of the whole file
        return [detail["msg"].removeprefix("Value error, ") for detail in details]
    keys = {".".join(str(part) for part in detail["loc"]): detail["type"] == "missing" for detail in details}
    found = {
        "lacks": [key for key, is_missing in keys.items() if is_missing],
        "unusable:": [key for key, is_missing in keys.items() if not is_missing],
    }
    return [f"{word} {', '.join(named)}" for word, named in found.items() if named]


@lru_cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
