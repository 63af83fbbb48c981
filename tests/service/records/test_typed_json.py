"""A JSON file becomes a dataclass, or one error that names the file and the keys."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from service.errors import StudyError
from service.records.typed_json import parse


@dataclass(frozen=True)
class Note:
    """What the tests read."""

    author: str
    lines: dict[str, int]
    read: bool = False

    def __post_init__(self) -> None:
        if self.author == "":
            raise ValueError("author: must not be empty")


def test_values_are_taken_and_unknown_keys_ignored() -> None:
    content = b'{"author": "Ada", "lines": {"first": 1}, "colour": "blue"}'

    assert parse(Note, content, "note.json") == Note("Ada", {"first": 1})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"[1]", "object"),
        (b"{}", "lacks author, lines"),
        (b'{"author": 1, "lines": {"first": "one"}}', "unusable: author, lines.first"),
        (b'{"author": "Ada"}', "lacks lines"),
        (b'{"author": "Ada", "lines": {}, "read": "yes"}', "unusable: read"),
        (b'{"author": "", "lines": {}}', "author: must not be empty"),
    ],
)
def test_what_is_damaged_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(StudyError, match=r"^place/note\.json: is damaged \(.*" + reason):
        parse(Note, content, "place/note.json")
