"""Conditional writes, against an S3-protocol server; and what becomes of them where a store has none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from service.errors import FileChangedError
from service.storage.conditional import ConditionalWrites, NotConditionalError, conditional_writes
from service.storage.files import open_storage
from service.storage.lease import Lease
from tests.service.object_store import FlakyS3, s3_server

KEY = "studies/deep/lease 1.json"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyS3]:
    with s3_server(monkeypatch, "studies") as running:
        yield running


@pytest.fixture
def writes(store: FlakyS3) -> ConditionalWrites:
    return ConditionalWrites(store.uri("studies"), "us-east-1")


def test_an_object_is_created_once(writes: ConditionalWrites) -> None:
    assert writes.create(KEY, b"first")
    assert not writes.create(KEY, b"second")
    assert writes.create(KEY, b"first"), "a try whose answer was lost has done it"


def test_an_object_is_replaced_if_it_is_as_it_was(writes: ConditionalWrites) -> None:
    version = writes.swap(KEY, b"first", "")
    newer = writes.swap(KEY, b"second", version)
    with pytest.raises(FileChangedError):
        writes.swap(KEY, b"third", version)
    assert writes.swap(KEY, b"second", version) == "", "a try whose answer was lost has done it"
    assert writes.swap(KEY, b"third", newer)
    with pytest.raises(FileChangedError):
        writes.swap("studies/absent", b"x", newer)


def test_a_server_that_fails_is_an_oserror(store: FlakyS3, writes: ConditionalWrites) -> None:
    store.failures = 10**6
    with pytest.raises(OSError, match="internal error"):
        writes.create(KEY, b"x")


def test_a_missing_bucket_is_an_oserror(store: FlakyS3) -> None:
    with pytest.raises(OSError, match="bucket"):
        ConditionalWrites(store.uri("nowhere"), "us-east-1").swap("nowhere/x", b"x", "")


def test_only_s3_has_them_and_only_where_boto3_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert conditional_writes("gs://bucket/x", "") is None
    assert conditional_writes("s3://bucket/x", "us-east-1") is not None
    monkeypatch.setattr("service.storage.conditional.importlib.util.find_spec", lambda name: None)
    assert conditional_writes("s3://bucket/x", "us-east-1") is None


def _overlook(store: FlakyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """As stores do that do not know conditions."""
    app = store._app

    def without_conditions(environ: dict[str, Any], start: Any) -> Any:
        for header in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"):
            environ.pop(header, None)
        return app(environ, start)

    monkeypatch.setattr(store, "_app", without_conditions)


def _refuse(store: FlakyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """As stores do that know them and do not offer them."""
    app = store._app

    def not_implemented(environ: dict[str, Any], start: Any) -> Any:
        if "HTTP_IF_MATCH" in environ or "HTTP_IF_NONE_MATCH" in environ:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("501 Not Implemented", [("Content-Type", "application/xml")])
            return [b"<Error><Code>NotImplemented</Code><Message>A header is not implemented</Message></Error>"]
        return app(environ, start)

    monkeypatch.setattr(store, "_app", not_implemented)


def _no_boto3(store: FlakyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.storage.conditional.importlib.util.find_spec", lambda name: None)


@pytest.mark.parametrize("lacking", [_overlook, _refuse, _no_boto3])
def test_without_them_a_lease_works_as_well_as_it_can(
    store: FlakyS3, monkeypatch: pytest.MonkeyPatch, lacking: Any
) -> None:
    lacking(store, monkeypatch)
    storage = open_storage(store.uri("studies/study"))
    lease = Lease(storage, beat_s=0.05, ttl_s=0.5)
    assert lease.acquire() is None
    assert not storage.creates_exclusively
    storage.fenced(lease.check).write("file", b"x")
    lease.release()
    second = Lease(storage, beat_s=0.05, ttl_s=0.5)
    assert second.acquire() is None
    assert second.number == 2
    second.release()


def test_a_store_that_overlooks_conditions_is_found_out(
    store: FlakyS3, writes: ConditionalWrites, monkeypatch: pytest.MonkeyPatch
) -> None:
    _overlook(store, monkeypatch)
    with pytest.raises(NotConditionalError):
        writes.create(KEY, b"x")


def test_a_beat_of_one_who_was_stopped_in_the_middle_of_its_request_fails(store: FlakyS3) -> None:
    """It had looked, and then its request took longer than its lease; the store refuses it."""
    storage = open_storage(store.uri("studies/study"))
    stopped = Lease(storage, beat_s=1000.0, ttl_s=0.5)
    stopped.acquire()
    late = stopped._record(1).dumps()
    stopped._stop.set()
    taker = Lease(storage, beat_s=1000.0, ttl_s=0.5)
    taker.acquire()
    before = storage.read("lease.json")
    with pytest.raises(FileChangedError):
        storage.swap("lease.json", late, stopped._version)
    assert storage.read("lease.json") == before
    taker.release()
