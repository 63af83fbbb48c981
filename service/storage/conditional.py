"""Writes to S3 that happen only on a condition, by boto3: pyarrow's file systems offer none.

``If-None-Match: *`` creates an object that must not exist yet; ``If-Match`` replaces one that is still as it was read.
"""

from __future__ import annotations

import importlib.util
import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

from service.errors import FileChangedError

CHANGED, UNSUPPORTED = (404, 412), 501  # HTTP statuses; 404: there is no object that could match
TIMEOUT_S, TRIES = 20, 3


class NotConditionalError(Exception):
    """The store takes no conditions, or boto3 cannot reach it in the way that pyarrow does."""


def conditional_writes(uri: str, region: str) -> ConditionalWrites | None:
    """Conditional writes to the bucket of an ``s3://`` URI; None for other stores, and where boto3 is not installed."""
    if not uri.startswith("s3://") or importlib.util.find_spec("boto3") is None:
        return None
    return ConditionalWrites(uri, region)


class ConditionalWrites:
    """To the bucket that the URI names, as it does for pyarrow: with ``endpoint_override`` and ``scheme``.

    Objects are named as pyarrow names them, by the bucket and the key.
    """

    def __init__(self, uri: str, region: str) -> None:
        self._uri, self._region = urlsplit(uri), region
        self._client: Any = None
        self._lock = threading.Lock()
        self._is_proven = False

    def create(self, path: str, content: bytes) -> bool:
        """Put an object that must not exist yet; False if it does. Raises :class:`NotConditionalError`."""
        try:
            self._put(path, content, IfNoneMatch="*")
        except FileChangedError:
            return self._holds(path, content)
        if not self._is_proven:  # some stores overlook conditions; the same content again does no harm
            try:
                self._put(path, content, IfNoneMatch="*")
            except FileChangedError:
                self._is_proven = True
            else:
                raise NotConditionalError(f"{self._uri.netloc} overlooks If-None-Match")
        return True

    def swap(self, path: str, content: bytes, version: str) -> str:
        """Put an object if its ETag is still ``version`` ("": whatever it is); returns the new one.

        Raises :class:`service.errors.FileChangedError` if it is another, and :class:`NotConditionalError`.
        """
        try:
            return self._put(path, content, **({"IfMatch": version} if version else {}))
        except FileChangedError:
            if self._holds(path, content):  # an earlier try did it, whose answer was lost
                return ""
            raise

    def _holds(self, path: str, content: bytes) -> bool:
        try:
            return bool(self._request("get_object", path)["Body"].read() == content)
        except FileChangedError:  # it is gone
            return False

    def _put(self, path: str, content: bytes, **conditions: str) -> str:
        etag: str = self._request("put_object", path, Body=content, **conditions)["ETag"]
        return etag

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            bucket, _, key = path.partition("/")
            return getattr(self._connected(), method)(Bucket=bucket, Key=key, **arguments)
        except NoCredentialsError as error:
            raise NotConditionalError(str(error)) from None
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == UNSUPPORTED:
                raise NotConditionalError(str(error)) from None
            if status in CHANGED and error.response.get("Error", {}).get("Code") != "NoSuchBucket":
                raise FileChangedError(str(error)) from None
            raise OSError(str(error)) from None
        except BotoCoreError as error:
            raise OSError(str(error)) from None

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _client(self._uri.query, self._region, self._uri.username, self._uri.password)
            return self._client


def _client(query: str, region: str, key: str | None, secret: str | None) -> Any:
    import boto3
    from botocore.config import Config

    options = {name: values[-1] for name, values in parse_qs(query).items()}
    endpoint = options.get("endpoint_override")
    if endpoint and "://" not in endpoint:
        endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region or None,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(
            connect_timeout=TIMEOUT_S,
            read_timeout=TIMEOUT_S,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
            s3={"addressing_style": "path" if endpoint else "auto"},
            request_checksum_calculation="when_required",  # not every store knows the newer checksums
            response_checksum_validation="when_required",
        ),
    )
