"""The time, as the records of a study tell it."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
