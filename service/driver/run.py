"""Run a study: create or load it, get workers, drive it to its end, publish its tables."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from service.driver.driver import Driver
from service.errors import AnotherStudyError, SpecError, StudyError, StudyNotFoundError
from service.executors.base import Executor
from service.executors.worker import WorkerSetup, load_function
from service.ledger.publish import discard_shards, publish
from service.ledger.schema import SCHEMA_VERSION
from service.ledger.shards import Ledger, Recovered
from service.records.progress import MANIFEST, PROGRESS, Event, EventLog, State, StudyStatus, now, read_spec, read_study
from service.records.provenance import provenance
from service.spec.packing import pack_size_of
from service.spec.plan import STREAMS, make_plan
from service.spec.study_spec import StudySpec, differences, located
from service.storage.files import Storage
from service.storage.lease import LEASE, Lease
from trainers.config import ConfigError

FIRST_TRIES = 3  # a place that cannot be written at all is soon known


def run_study(
    spec: StudySpec,
    out: str | Path | Storage,
    *,
    address: str | None = None,
    executor: Executor | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_progress: Callable[[StudyStatus], None] | None = None,
) -> StudyStatus:
    """Create the study ``spec`` in ``out``, or go on with it, until it ends, is cancelled or is interrupted.

    ``out`` is a directory or a URI. Work is done by Ray: the cluster at ``address``, at ``$RAY_ADDRESS``, or one that
    lives in this process; an ``executor`` of your own does it elsewhere. The same spec again resumes; with more
    ``configurations`` it extends. SIGINT and SIGTERM end it cleanly, to be resumed.

    Raises :class:`service.errors.StudyError` on bad input and :class:`service.errors.StorageError` when the storage
    goes on failing.
    """
    storage = out if isinstance(out, Storage) else Storage(out)
    spec, study = _create_or_load(spec, storage)
    plan = make_plan(spec, study["pack_size"])
    here = provenance()
    if study["provenance"] is None:
        study["provenance"] = here
    if not study["provenance"]["data_hash"]:
        study["provenance"]["data_hash"] = _check_data(spec)
    study |= {"spec": spec.to_dict(), "planned": plan.planned()}
    if executor is None:
        from service.executors.ray_actors import RayExecutor

        executor = RayExecutor(spec.execution, address)
    log = EventLog(storage, on_event)
    with _leased(storage) as (lease, dead):
        try:
            log.add(
                "study_started",
                f"{sum(plan.planned().values())} runs planned",
                {"study_hash": spec.hash, **{key: here[key] for key in ("git_commit", "dirty", "versions")}},
            )
            storage.on_retry = lambda what, error, wait: log.add("storage_retry", f"{what}: {error}", {"wait_s": wait})
            ledger = Ledger(storage, plan)
            driver = Driver(plan, ledger, executor, _recover(ledger, log, dead), log, lease, on_progress)
            driver.on_request = _obeys(driver, study, storage, log)
            driver.take_standing_requests()
            if not driver.finished():
                executor.start(_setup(spec, storage, study), log.add)
            storage.write_json(MANIFEST, study)
            return _drive(driver, ledger, study, storage, log)
        finally:
            executor.close()


def resume_study(uri: str, **options: Any) -> StudyStatus:
    """Go on with the study at ``uri``, whose spec it holds; the options are those of :func:`run_study`."""
    return run_study(read_spec(uri), uri, **options)


def _create_or_load(spec: StudySpec, storage: Storage) -> tuple[StudySpec, dict[str, Any]]:
    """The spec to run and the content of ``study.json``, new or as stored. Writes nothing."""
    spec = located(spec, "")
    try:
        study = read_study(storage.uri)
    except StudyNotFoundError:
        strangers = [name for name in (*storage.files(""), *storage.directories()) if name not in (LEASE, "control")]
        if strangers:
            raise StudyError(
                f"{storage.uri}: holds no study, yet is not empty ({', '.join(strangers[:3])}"
                f"{' …' if len(strangers) > 3 else ''}); give a new directory"
            ) from None
        return spec, {
            "schema_version": SCHEMA_VERSION,
            "study_hash": spec.hash,
            "spec": spec.to_dict(),
            "pack_size": pack_size_of(spec),
            "seeds": {"study": spec.seed, "streams": STREAMS},
            "created_at": now(),
            "provenance": None,
            "tables": None,
        }
    stored = StudySpec.from_dict(study["spec"], where=f"{storage.uri}/{MANIFEST}")
    if stored.hash != spec.hash:
        raise AnotherStudyError(
            f"{storage.uri}: holds the study {stored.name!r} of another spec; give another "
            "directory, or the same spec. These keys differ:",
            differences(spec, stored),
        )
    return dataclasses.replace(spec, configurations=max(spec.configurations, stored.configurations)), study


def _check_data(spec: StudySpec) -> str | None:
    """The hash of the study's data; raises SpecError if they cannot be had. A trainer of the user's own has its own."""
    if spec.trainer != "t1t2":
        load_function(spec.trainer)
        return None
    from trainers.data.split import load_split

    try:
        return load_split(spec.data).data_hash
    except ConfigError as error:
        raise SpecError(str(error)) from None


def _setup(spec: StudySpec, storage: Storage, study: dict[str, Any]) -> WorkerSetup:
    execution = spec.execution
    return WorkerSetup(
        spec.train_configs(),
        spec.trainer,
        study["provenance"]["data_hash"],
        storage.uri,
        execution.checkpoint_every,
        max(1, int(execution.cpus_per_actor)),
        "cuda" if execution.gpus_per_actor > 0 else "cpu",
    )


@contextmanager
def _leased(storage: Storage) -> Iterator[tuple[Lease, str | None]]:
    """Hold the study's lease; leave no trace of a study that never began."""
    is_new = storage.is_local and not os.path.exists(storage.root)
    lease = Lease(Storage(storage.uri, tries=FIRST_TRIES))
    try:
        dead = lease.acquire()
    except OSError as error:
        raise StudyError(
            f"{storage.uri}: cannot be written ({error.__cause__ or error}); give a place where you may write"
        ) from None
    try:
        yield lease, dead
    finally:
        lease.release()
        if is_new and not os.listdir(storage.root):
            os.rmdir(storage.root)


def _recover(ledger: Ledger, log: EventLog, dead: str | None) -> Recovered:
    """What is committed; attempts that died with the last driver are recorded as lost."""
    recovered = ledger.recover()
    for path in recovered.set_aside:
        log.add(
            "shard_corrupt",
            f"{path} cannot be read; it is in ledger/corrupt now, its runs are trained again",
            {"path": path},
        )
    try:
        in_flight = ledger.storage.read_json(PROGRESS)["in_flight"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return recovered
    recorded = recovered.attempts
    died = [(run_id, attempt) for run_id, attempt in in_flight if attempt > recorded.get(run_id, 0)]
    committed = ledger.committed({run_id for run_id, _ in died})
    rows = [
        {"run_id": run_id, "attempt": attempt, "outcome": "lost", "error": f"the driver {dead or ''} died"}
        for run_id, attempt in died
        if run_id not in committed
    ]
    ledger.commit([], {}, rows)
    for row in rows:
        recorded[row["run_id"]] = row["attempt"]
    recovered.lost += len(rows)
    log.add("resumed", f"{len(rows)} attempts were lost with the last driver", {"lost": len(rows)})
    return recovered


def _obeys(driver: Driver, study: dict[str, Any], storage: Storage, log: EventLog) -> Callable[[dict[str, Any]], None]:
    """What carries out the requests that change the study itself."""

    def obey(request: dict[str, Any]) -> None:
        if request["action"] == "retry":
            log.add("retry", f"{driver.retry_failed()} failed runs, by request")
        elif int(request["configurations"]) > driver.plan.spec.configurations:
            spec = dataclasses.replace(driver.plan.spec, configurations=int(request["configurations"]))
            plan = make_plan(spec, driver.plan.pack_size)
            study.update(spec=spec.to_dict(), planned=plan.planned())
            storage.write_json(MANIFEST, study)
            driver.extend(plan)
            log.add("extended", f"to {spec.configurations} configurations", {"configurations": spec.configurations})

    return obey


def _drive(driver: Driver, ledger: Ledger, study: dict[str, Any], storage: Storage, log: EventLog) -> StudyStatus:
    """Drive to the end, publish, and leave the last status behind, whatever happens."""
    state: State = "failed"
    error = None
    try:
        with _stopped_by_signals(driver):
            state = driver.run()
        if state in ("completed", "cancelled") and (ledger.shards("attempts") or not study["tables"]):
            study["tables"] = {**publish(ledger), "published_at": now()}
            storage.write_json(MANIFEST, study)
            discard_shards(ledger)
            log.add("published", "", dict(study["tables"]))
        log.add("study_finished" if state == "completed" else state)
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}"
        raise
    finally:
        status = driver.status(state, error)
        with suppress(OSError) if error else nullcontext():
            last = storage if error is None else Storage(storage.uri, tries=1)  # it may be what has failed
            last.write_json(PROGRESS, {"status": status.to_dict(), "in_flight": driver.abandoned()})
            log.flush(last)
    if driver.on_progress:
        driver.on_progress(status)
    return status


@contextmanager
def _stopped_by_signals(driver: Driver) -> Iterator[None]:
    """Within it, the first SIGINT or SIGTERM ends the driver cleanly, the next one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}

    def stop(number: int, frame: object) -> None:
        driver.stop = True
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
