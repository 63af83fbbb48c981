"""From a JSON file to a dataclass: what is missing or of another type is one error that names the file and the keys."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from service.errors import DamagedFileError
from service.storage.checked_json import loads_checked

T = TypeVar("T")


def parse(kind: type[T], content: bytes, where: str) -> T:
    """The JSON object ``content`` of the file ``where`` as a ``kind``; keys that ``kind`` does not know are ignored.

    Raises :class:`service.errors.DamagedFileError` if it is no JSON, does not fit its checksum (where it has one),
    lacks keys of ``kind``, or has values of other types.
    """
    loads_checked(content, where)
    try:
        record: T = _adapter(kind).validate_json(content, strict=True)  # type: ignore[arg-type]  # a class is hashable
    except ValidationError as error:
        raise DamagedFileError(where, "; ".join(_reasons(error))) from None
    return record


def _reasons(error: ValidationError) -> list[str]:
    details = error.errors(include_url=False, include_context=False)
    if not details[0]["loc"]:  # the whole file
        return [details[0]["msg"].removeprefix("Value error, ")]
    missing: list[str] = []
    wrong: list[str] = []
    for detail in details:
        (missing if detail["type"] == "missing" else wrong).append(".".join(map(str, detail["loc"])))
    return [f"{word} {', '.join(keys)}" for word, keys in (("lacks", missing), ("unusable:", wrong)) if keys]


@lru_cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
