"""What a study is: ``study.json``, which is written when the study begins, grows, and publishes its tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.errors import AnotherStudyError, DamagedFileError, StorageError, StudyError, StudyNotFoundError
from service.ledger.schema import SCHEMA_VERSION, TABLES, check_version_number
from service.records.clock import now
from service.records.typed_json import parse
from service.spec.plan import STREAMS, Plan, make_plan
from service.spec.study_spec import StudySpec, differences, located
from service.storage.checked_json import dumps_checked, loads_checked
from service.storage.files import Storage, open_storage
from service.storage.lease_record import CLAIMS, LEASE

if TYPE_CHECKING:  # who only reads study.json needs no Parquet
    from service.ledger.publish import Published

MANIFEST = "study.json"
IMPORTED = "imported"  # the key of the provenance that says from which other program a study's results come
BASELINES = "baselines"  # the key of study.json that says how rivals were run; also their directory in a study's
READER_TRIES = 3  # who only looks is not kept waiting


@dataclass(frozen=True)
class _Version:
    schema_version: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of ``study.json``, whose keys are the fields, in this order."""

    schema_version: int = SCHEMA_VERSION
    study_hash: str
    spec: dict[str, Any]  # resolved, as StudySpec.to_dict gives it
    pack_size: int  # stays as it was when the study began, whatever a spec that says "auto" would give today
    seeds: dict[str, Any]
    created_at: str
    provenance: dict[str, Any] | None = None  # None until a driver has begun
    tables: dict[str, Any] | None = None  # what is published: rows, when, SHA-256 of the files; None before
    planned: dict[str, int]  # runs by arm

    def __post_init__(self) -> None:
        if not isinstance(self.spec.get("name"), str) or not isinstance(self.spec.get("configurations"), int):
            raise ValueError("spec: must have a name and a number of configurations")

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.spec["name"])

    @property
    def configurations(self) -> int:
        """How many configurations the study has."""
        return int(self.spec["configurations"])

    def check_trainable(self, uri: str) -> None:
        """Raise StudyError if there is no spec to train by: the study, at ``uri``, was imported, or holds baselines."""
        if IMPORTED in (self.provenance or {}):
            raise StudyError(
                f"{uri}: was imported from another program: it can be read and reported, but nothing is trained in it"
            )
        if BASELINES in (self.provenance or {}):
            raise StudyError(
                f"{uri}: holds the baselines of a study, which `t1t2 baselines` runs and goes on with; give the study"
            )

    def study_spec(self, uri: str) -> StudySpec:
        """The spec of the study, which is at ``uri``; raises StudyError if it has none that can be used."""
        self.check_trainable(uri)
        return StudySpec.from_dict(self.spec, where=f"{uri}/{MANIFEST}")

    @staticmethod
    def of(plan: Plan) -> Manifest:
        """The manifest of a study that begins now."""
        return Manifest(
            study_hash=plan.spec.hash,
            spec=plan.spec.to_dict(),
            pack_size=plan.pack_size,
            seeds={"study": plan.spec.seed, "streams": STREAMS},
            created_at=now(),
            planned=plan.planned(),
        )

    @staticmethod
    def load(storage: Storage) -> Manifest:
        """The manifest of the study in ``storage``; raises what :func:`read_study` does."""
        return _read(storage)[0]

    def save(self, storage: Storage) -> None:
        """Put the file in place."""
        storage.write(MANIFEST, dumps_checked(dataclasses.asdict(self), indent=1))

    def extended(self, plan: Plan) -> Manifest:
        """With the spec of ``plan``, which may have more configurations, and its numbers of runs."""
        return dataclasses.replace(self, spec=plan.spec.to_dict(), planned=plan.planned())

    def with_provenance(self, provenance: dict[str, Any]) -> Manifest:
        """With the provenance of the first driver."""
        return dataclasses.replace(self, provenance=provenance)

    @property
    def checksums(self) -> dict[str, str]:
        """The SHA-256 of each published file, by its table; empty where there is none, or from an earlier version."""
        return dict((self.tables or {}).get("sha256") or {})

    def with_tables(self, published: dict[str, Published], at: str | None = None) -> Manifest:
        """With the tables that have been published just now, or at the time ``at``."""
        rows = {table: found.rows for table, found in published.items()}
        checksums = {table: found.sha256 for table, found in published.items()}
        return dataclasses.replace(
            self, tables={**rows, "published_at": now() if at is None else at, "sha256": checksums}
        )


def find_study(
    spec: StudySpec, storage: Storage, on_rebuilt: Callable[[str], None] = lambda why: None
) -> tuple[StudySpec, Manifest | None]:
    """The spec to run in ``storage``, and the study's manifest; None where a new study may begin. Writes nothing.

    The spec is ``spec``, with as many configurations as the study has if they are more. Where ``study.json`` is missing
    or damaged and the tables are of this very spec, the manifest is made anew, and ``on_rebuilt`` is told why.
    Raises AnotherStudyError if another study is there, and StudyError if something else is, or it cannot be read.
    """
    spec = located(spec, "")
    try:
        manifest = Manifest.load(storage)
        check_tables(manifest, storage)
    except DamagedFileError as error:
        return _rebuilt(spec, storage, error, on_rebuilt)
    except StudyNotFoundError:
        early = (LEASE, CLAIMS, "control", BASELINES)  # a driver about to begin, somebody who asked too early, rivals
        others = [name for name in (*storage.files(""), *storage.directories()) if name not in early]
        if others and _are_of(spec, storage):
            missing = DamagedFileError(f"{storage.uri}/{MANIFEST}", "it is missing")
            return _rebuilt(spec, storage, missing, on_rebuilt)
        if others:
            raise StudyError(
                f"{storage.uri}: holds no study, yet is not empty ({', '.join(others[:3])}"
                f"{' …' if len(others) > 3 else ''}); give a new directory"
            ) from None
        return spec, None
    stored = manifest.study_spec(storage.uri)
    if stored.hash != spec.hash:
        raise AnotherStudyError(
            f"{storage.uri}: holds the study {stored.name!r} of another spec; give another "
            "directory, or the same spec. These keys differ:",
            differences(spec, stored),
        )
    if manifest.study_hash != stored.hash:  # a setting has come since that affects results
        commit = (manifest.provenance or {}).get("git_commit")
        raise StudyError(
            f"{storage.uri}: was begun by an earlier version of this package (git commit {commit}), in which the same "
            "spec has other results. It can be read and reported, but only that version can go on with it; give a new "
            "directory"
        )
    return dataclasses.replace(spec, configurations=max(spec.configurations, stored.configurations)), manifest


def check_tables(manifest: Manifest, storage: Storage) -> None:
    """Raise DamagedFileError where the tables say that the manifest is another study's."""
    from service.ledger.survey import study_hashes  # loads pyarrow's Parquet, which who only reads study.json spares

    hashes = study_hashes(storage)
    if hashes and manifest.study_hash not in hashes:
        where = f"{storage.uri}/{MANIFEST}"
        raise DamagedFileError(where, "it is of another study than the tables beside it", _remedy(storage.uri))


def _remedy(uri: str) -> str:
    return f"put a copy of it back, or have it written anew from this study's spec:  t1t2 run SPEC --out {uri}"


def _are_of(spec: StudySpec, storage: Storage) -> bool:
    """Whether the tables in ``storage`` say that they are of this spec."""
    from service.ledger.survey import study_hashes

    return study_hashes(storage) == {spec.hash}


def _rebuilt(
    spec: StudySpec, storage: Storage, problem: DamagedFileError, on_rebuilt: Callable[[str], None]
) -> tuple[StudySpec, Manifest]:
    """The manifest made anew from the spec, if the tables are of it; else raises an error that tells what to do."""
    from service.ledger.survey import configurations, is_published

    if not _are_of(spec, storage):
        raise DamagedFileError(
            problem.where, problem.reason, f"{_remedy(storage.uri)}  (the tables are not of this spec)"
        )
    spec = dataclasses.replace(spec, configurations=max(spec.configurations, configurations(storage)))
    manifest = Manifest.of(make_plan(spec))
    if is_published(storage):  # how many rows there should be is not known: they are published anew
        manifest = dataclasses.replace(manifest, tables={**dict.fromkeys(TABLES, 0), "published_at": now()})
    on_rebuilt(f"{problem.where}: is damaged ({problem.reason}); it is made anew from the spec, whose tables are here")
    return spec, manifest


def read_study(uri: str) -> dict[str, Any]:
    """The content of ``study.json``.

    Raises :class:`service.StudyError`: a StudyNotFoundError if there is none, a NewerSchemaError if a newer version of
    this package wrote it; any other says that it is damaged, or that the storage cannot be read.
    """
    return _read(open_storage(uri))[1]


def read_spec(uri: str) -> StudySpec:
    """The spec of a study."""
    return Manifest.load(open_storage(uri)).study_spec(uri)


def _read(storage: Storage) -> tuple[Manifest, dict[str, Any]]:
    """The manifest and the file's whole content, which may have keys that a manifest does not know."""
    uri, where = storage.uri, f"{storage.uri}/{MANIFEST}"
    try:
        content = storage.retrying(tries=READER_TRIES).read(MANIFEST)
    except FileNotFoundError:
        raise StudyNotFoundError(f"{uri}: holds no study (no {MANIFEST}); give the directory or URI of one") from None
    except StorageError as error:
        raise StudyError(f"{uri}: cannot be read ({error.__cause__})") from None
    try:
        check_version_number(parse(_Version, content, where).schema_version, where)  # a newer one may have other keys
        return parse(Manifest, content, where), loads_checked(content, where)
    except DamagedFileError as error:
        raise DamagedFileError(where, error.reason, _remedy(uri)) from None
