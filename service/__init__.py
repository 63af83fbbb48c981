"""Run large seeded studies of T1-T2 on Ray, and publish them as Parquet. See ``service/README.md``.

The names below are loaded when first used, so that a command that needs neither Ray nor Arrow imports neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.client.study_client import StudyClient
    from service.driver.run import resume_study, run_study
    from service.errors import (
        AnotherStudyError,
        NewerSchemaError,
        ResourceError,
        SpecError,
        StorageError,
        StudyBusyError,
        StudyError,
        StudyNotFoundError,
    )
    from service.records.progress import (
        Event,
        StudyStatus,
        list_studies,
        read_events,
        read_spec,
        read_status,
        read_study,
        request,
        study_uri,
    )
    from service.spec.study_spec import StudySpec, differences, load_spec

_HOMES = {
    "service.client.study_client": ("StudyClient",),
    "service.errors": (
        "AnotherStudyError",
        "NewerSchemaError",
        "ResourceError",
        "SpecError",
        "StorageError",
        "StudyBusyError",
        "StudyError",
        "StudyNotFoundError",
    ),
    "service.spec.study_spec": ("StudySpec", "differences", "load_spec"),
    "service.records.progress": (
        "Event",
        "StudyStatus",
        "list_studies",
        "read_events",
        "read_spec",
        "read_status",
        "read_study",
        "request",
        "study_uri",
    ),
    "service.driver.run": ("resume_study", "run_study"),
}

__all__ = [
    "AnotherStudyError",
    "Event",
    "NewerSchemaError",
    "ResourceError",
    "SpecError",
    "StorageError",
    "StudyBusyError",
    "StudyClient",
    "StudyError",
    "StudyNotFoundError",
    "StudySpec",
    "StudyStatus",
    "differences",
    "list_studies",
    "load_spec",
    "read_events",
    "read_spec",
    "read_status",
    "read_study",
    "request",
    "resume_study",
    "run_study",
    "study_uri",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'service' has no attribute {name!r}")
