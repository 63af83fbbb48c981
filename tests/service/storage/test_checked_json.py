"""JSON files that carry a checksum of themselves."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import DamagedFileError
from service.storage.checked_json import dumps_checked, loads_checked

SAMPLE = {
    "name": "ä\n",
    "numbers": [0, -1, 1.5, 1e300, 5e-324],
    "none": None,
    "b": {"a": True, "c": []},
    "hash": "0" * 64,
    "e": "",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON), st.none() | st.integers(0, 2))
@settings(deadline=None)
def test_what_is_written_is_read(values: dict[str, Any], indent: int | None) -> None:
    content = dumps_checked(values, indent=indent)
    values.pop("sha256", None)
    assert loads_checked(content, "x.json") == values
    assert list(json.loads(content)) == [*values, "sha256"], "in their order, the checksum last"
    assert dumps_checked(loads_checked(content, "x.json"), indent=indent) == content


def test_spaces_do_not_matter_but_values_do() -> None:
    content = dumps_checked(SAMPLE, indent=1)
    assert loads_checked(json.dumps(json.loads(content), indent=7).encode(), "x.json") == SAMPLE
    with pytest.raises(DamagedFileError, match=r"^there/x.json: is damaged \(its content does not fit its checksum\)$"):
        loads_checked(content.replace(b"1.5", b"1.6"), "there/x.json")


@pytest.mark.parametrize("indent", [None, 1])
def test_no_flipped_bit_passes_for_another_content(indent: int | None) -> None:
    content = dumps_checked(SAMPLE, indent=indent)
    refused = 0
    for position in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        try:
            assert loads_checked(bytes(damaged), "x.json") == SAMPLE, position
        except DamagedFileError:
            refused += 1
    assert refused > 7.5 * len(content)


@pytest.mark.parametrize("indent", [None, 1])
def test_no_cut_and_no_emptied_byte_passes(indent: int | None) -> None:
    content = dumps_checked(SAMPLE, indent=indent)
    for position in range(len(content)):
        for damaged in (content[:position], content[:position] + b"\0" + content[position + 1 :]):
            with pytest.raises(DamagedFileError):
                loads_checked(damaged, "x.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\xef\xbb\xbf{}", "it begins with a byte order mark; save it as UTF-8 without one"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"{", "Expecting property name enclosed in double quotes"),
        (b"{}{}", "Extra data"),
        (b"[1]", "a JSON object is expected"),
        (b"null", "a JSON object is expected"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"a": -Infinity}', "-Infinity is no number of JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
        (b'{"a": 1e999}', "Out of range float values are not JSON compliant"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "it is nested too deeply"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"a": 1, "sha256": null}', "its content does not fit its checksum"),
        (b'{"a": 1, "sha256": {}}', "its content does not fit its checksum"),
        (b'{"a": 1, "sha255": "' + b"0" * 64 + b'"}', "the name of its last key should be sha256"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_what_cannot_be_used_is_one_line_that_names_the_file(content: bytes, reason: str) -> None:
    with pytest.raises(DamagedFileError) as caught:
        loads_checked(content, "s3://b/x.json")
    assert str(caught.value).startswith(f"s3://b/x.json: is damaged ({reason}")
    assert "\n" not in str(caught.value)


def test_a_file_without_a_checksum_was_written_before() -> None:
    assert loads_checked(json.dumps(SAMPLE).encode(), "x.json") == SAMPLE
    assert loads_checked(b"{}", "x.json") == {}


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_json_cannot_say_is_not_written(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps_checked({"a": number})
