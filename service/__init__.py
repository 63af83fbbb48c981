"""Run large seeded studies of T1-T2 on Ray, and publish them as Parquet. See ``service/README.md``.

The names below are loaded when first used, so that a command that needs neither Ray nor Arrow imports neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_HOMES = {
    "service.client.study_client": ("StudyClient",),
    "service.driver.run": ("resume_study", "run_study"),
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
    "service.records.events": ("Event", "read_events"),
    "service.records.manifest": ("read_spec", "read_study"),
    "service.records.progress": ("StudyStatus", "list_studies", "read_status", "study_uri"),
    "service.records.requests": ("request",),
    "service.spec.study_spec": ("StudySpec", "differences", "load_spec"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = list(_HOME_OF)

if TYPE_CHECKING:  # the same for type checkers, which then know every name and refuse all others
    from service.client.study_client import StudyClient as StudyClient
    from service.driver.run import resume_study as resume_study
    from service.driver.run import run_study as run_study
    from service.errors import AnotherStudyError as AnotherStudyError
    from service.errors import NewerSchemaError as NewerSchemaError
    from service.errors import ResourceError as ResourceError
    from service.errors import SpecError as SpecError
    from service.errors import StorageError as StorageError
    from service.errors import StudyBusyError as StudyBusyError
    from service.errors import StudyError as StudyError
    from service.errors import StudyNotFoundError as StudyNotFoundError
    from service.records.events import Event as Event
    from service.records.events import read_events as read_events
    from service.records.manifest import read_spec as read_spec
    from service.records.manifest import read_study as read_study
    from service.records.progress import StudyStatus as StudyStatus
    from service.records.progress import list_studies as list_studies
    from service.records.progress import read_status as read_status
    from service.records.progress import study_uri as study_uri
    from service.records.requests import request as request
    from service.spec.study_spec import StudySpec as StudySpec
    from service.spec.study_spec import differences as differences
    from service.spec.study_spec import load_spec as load_spec
else:

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'service' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME_OF[name]), name)
