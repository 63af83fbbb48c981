"""The service and the analysis agree on what a sound ``study.json`` is; neither may import the other."""

from __future__ import annotations

import random
from typing import Any

import pytest

from analysis.study_json import verified
from service.errors import DamagedFileError
from service.records.manifest import Manifest
from service.spec.plan import make_plan
from service.storage.checked_json import dumps_checked, loads_checked
from tests.service.studies import toy_spec

CONTENT = dumps_checked(vars(Manifest.of(make_plan(toy_spec()))), indent=1)


def service_reads(content: bytes) -> Any:
    try:
        return loads_checked(content, "study.json")
    except DamagedFileError:
        return None


def analysis_reads(content: bytes) -> Any:
    try:
        return verified(content)
    except ValueError:
        return None


def test_both_read_what_the_service_writes() -> None:
    assert analysis_reads(CONTENT) == service_reads(CONTENT) == loads_checked(CONTENT, "")


def test_both_refuse_the_same_damage_and_never_give_other_values() -> None:
    random.seed(11)
    for _ in range(1000):
        damaged = bytearray(CONTENT)
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
        assert analysis_reads(bytes(damaged)) == service_reads(bytes(damaged))
        assert service_reads(bytes(damaged)) in (None, service_reads(CONTENT))
    for cut in range(len(CONTENT)):
        assert analysis_reads(CONTENT[:cut]) is None is service_reads(CONTENT[:cut])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe",
        b'{"a": 1}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 1, "sha256": null}',
        b'{"a": 1, "sha257": "' + b"0" * 64 + b'"}',
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=lambda content: repr(content[:20]),
)
def test_both_agree_on_odd_content(content: bytes) -> None:
    assert analysis_reads(content) == service_reads(content)
