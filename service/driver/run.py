"""Run a study: create or load it, get workers, drive it to its end, publish its tables."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.driver.discard import discard_untrained
from service.driver.driver import Driver, log_damaged_shards
from service.driver.rehearsal import refuse_main, rehearse
from service.errors import SpecError, StudyBusyError, StudyError, TakenOverError
from service.executors.base import Executor, WorkerSetup
from service.executors.worker import load_trainer
from service.ledger.publish import discard_shards, discard_tables, is_published, publish
from service.ledger.recovery import Recovered, recover
from service.ledger.shards import Ledger, Row
from service.records.clock import now
from service.records.events import Event, EventLog
from service.records.manifest import Manifest, find_study, read_spec
from service.records.progress import StudyState, StudyStatus, read_ended, read_in_flight, write_progress
from service.records.provenance import provenance
from service.spec.fits import check_machine, check_reserved
from service.spec.plan import Plan, make_plan
from service.spec.study_spec import StudySpec
from service.storage.files import Storage, open_storage
from service.storage.lease import Lease
from service.storage.lease_record import LEASE
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
    storage = out if isinstance(out, Storage) else open_storage(out)
    asked = spec.configurations
    rebuilt: list[str] = []
    spec, stored = find_study(spec, storage, rebuilt.append)
    if stored is None:
        check_reserved(spec)
    if executor is None:
        rehearse(spec)
    else:  # it may have its own ways, and be told of code that no other process finds
        refuse_main(spec)
    plan = make_plan(spec, stored.pack_size if stored else None)
    if stored is None and executor is None and not (address or os.environ.get("RAY_ADDRESS")):
        check_machine(spec)
    here = provenance()
    origin = stored.provenance if stored and stored.provenance else here
    origin = {
        **origin,
        "data_hash": origin.get("data_hash") or check_data(spec),
        # Rounding depends on it, so it stays, whatever a later spec says of the work.
        "threads": origin.get("threads") or spec.execution.threads,
    }
    if rebuilt:  # what was known of its beginning is lost
        origin["study_json_rebuilt_at"] = now()
    manifest = (stored or Manifest.of(plan)).extended(plan).with_provenance(origin)
    if executor is None:
        from service.executors.ray_actors import RayExecutor

        executor = RayExecutor(spec.execution, address)
    lease = Lease(storage.retrying(tries=FIRST_TRIES))
    watched = storage.fenced(lease.check).retrying(
        on_retry=lambda what, error, wait: log.add("storage_retry", f"{what}: {error}", {"wait_s": wait})
    )
    log = EventLog(watched, on_event, study_hash=spec.hash)
    if asked < spec.configurations:
        log.add("configurations_kept", f"{spec.configurations:,}, not the {asked:,} of this spec: none is removed")
    for why in rebuilt:
        log.add("study_json_rebuilt", why)
    session = _Session(manifest, Ledger(watched, plan), executor, log, on_progress)
    with _leased(storage, lease) as dead:
        try:
            return session.run(lease, dead, here)
        except StudyError as error:
            if stored is None and not isinstance(error, StudyBusyError):
                with suppress(StudyError):  # something has been trained, and is kept
                    discard_untrained(watched)
            raise
        finally:
            executor.close()


def resume_study(uri: str, **options: Any) -> StudyStatus:
    """Go on with the study at ``uri``, whose spec it holds; the options are those of :func:`run_study`."""
    return run_study(read_spec(uri), uri, **options)


def check_data(spec: StudySpec) -> str | None:
    """The hash of the study's data; raises SpecError if they cannot be had. A trainer of the user's own has its own."""
    if spec.trainer != "t1t2":
        load_trainer(spec.trainer)
        return None
    from trainers.data.split import load_split

    try:
        return load_split(spec.data).data_hash
    except ConfigError as error:
        raise SpecError(str(error)) from None


@dataclass
class _Session:
    """One driver's time with a study. The manifest changes when the study is extended and when it is published."""

    manifest: Manifest
    ledger: Ledger
    executor: Executor
    log: EventLog
    on_progress: Callable[[StudyStatus], None] | None

    def run(self, lease: Lease, dead: str | None, here: dict[str, Any]) -> StudyStatus:
        """Drive the study to its end. ``dead`` is the driver before, if it died; ``here`` is this one's provenance."""
        plan, storage = self.ledger.plan, self.ledger.storage
        self.ledger.begin(lease.number)
        if not self.manifest.tables:
            discard_tables(self.ledger)
        self.log.add(
            "study_started",
            f"{sum(plan.planned().values())} runs planned",
            {"study_hash": plan.spec.hash, **{key: here[key] for key in ("git_commit", "dirty", "versions")}},
        )
        self.driver = Driver(
            plan,
            self.ledger,
            self.executor,
            recovered=_recover(self.ledger, self.log, dead, self.manifest.checksums),
            log=self.log,
            lease=lease,
            on_progress=self.on_progress,
            on_extended=self._extended,
        )
        self.driver.take_standing_requests()
        if not self.driver.finished():
            self.executor.start(_setup(self.driver.plan.spec, storage.uri, self.manifest, lease.number), self.log.add)
        self.manifest.save(storage)
        return self._drive()

    def _extended(self, plan: Plan) -> None:
        """Keep a larger plan, before any of it is begun."""
        self.manifest = self.manifest.extended(plan)
        self.manifest.save(self.ledger.storage)

    def _drive(self) -> StudyStatus:
        """Drive, publish, and leave the last status behind, whatever happens."""
        state: StudyState = "failed"
        error = None
        try:
            with _stopped_by_signals(self.driver):
                state = self.driver.run()
            if state in ("completed", "cancelled"):
                self._publish()
            self.log.add("study_finished" if state == "completed" else state)
        except BaseException as problem:
            error = f"{type(problem).__name__}: {problem}"
            raise
        finally:
            status = self.driver.status(state, error)
            with suppress(OSError, TakenOverError) if error else nullcontext():
                storage = self.ledger.storage
                last = storage.retrying(tries=1) if error else storage  # it may be what has failed
                write_progress(last, status, self.driver.at_stake(), ended=self.driver.uncommitted(), durable=True)
                self.log.flush(last)
            if self.on_progress:
                self.on_progress(status)
        return status

    def _publish(self) -> None:
        """Write the tables, unless those that the manifest names are there and nothing was committed since."""
        if is_published(self.ledger, self.manifest.tables, self.manifest.checksums):
            return
        self.manifest = self.manifest.with_tables(publish(self.ledger))
        self.manifest.save(self.ledger.storage)
        discard_shards(self.ledger)
        self.log.add("published", "", dict(self.manifest.tables or {}))


def _setup(spec: StudySpec, uri: str, manifest: Manifest, lease: int) -> WorkerSetup:
    execution = spec.execution
    return WorkerSetup(
        configs=spec.train_configs(),
        trainer=spec.trainer,
        data_hash=(manifest.provenance or {})["data_hash"],
        storage=uri,
        lease=lease,
        checkpoint_every=execution.checkpoint_every,
        threads=(manifest.provenance or {})["threads"],
        device="cuda" if execution.gpus_per_actor > 0 else "cpu",
    )


@contextmanager
def _leased(storage: Storage, lease: Lease) -> Iterator[str | None]:
    """Hold the study's lease; leave no trace of a study that never began. Gives the driver before, if it died."""
    before = storage.nearest_directory()
    try:
        dead = lease.acquire()
    except OSError as error:
        raise StudyError(
            f"{storage.uri}: cannot be written ({error.__cause__ or error}); give a place where you may write"
        ) from None
    try:
        yield dead
    finally:
        never_began = False
        with suppress(OSError):
            never_began = not set(storage.files("")) - {LEASE} and not storage.files("ledger/runs")
        lease.release(forget=never_began)
        storage.remove_empty(keep=before)


def _recover(ledger: Ledger, log: EventLog, dead: str | None, checksummed: Collection[str]) -> Recovered:
    """What is committed; attempts that died with the last driver are recorded as lost."""
    recovered = recover(ledger, checksummed)
    log_damaged_shards(log, recovered)
    in_flight = read_in_flight(ledger.storage, ledger.plan.spec.hash)
    if in_flight is None:
        return recovered
    died = [(run_id, attempt) for run_id, attempt in in_flight if attempt > recovered.attempts.get(run_id, 0)]
    committed = ledger.committed({run_id for run_id, _ in died})
    ended = read_ended(ledger.storage, ledger.plan.spec.hash)
    who = f"the driver {dead} died" if dead else "the driver ended"
    rows: list[Row] = [
        {
            "run_id": run_id,
            "attempt": attempt,
            "outcome": "lost",
            "error": f"{who} before the run was committed" if (run_id, attempt) in ended else who,
        }
        for run_id, attempt in died
        if run_id not in committed
    ]
    ledger.commit(runs=[], points={}, attempts=rows)
    recovered.attempts |= {row["run_id"]: row["attempt"] for row in rows}
    recovered.lost += len(rows)
    finished = sum((row["run_id"], row["attempt"]) in ended for row in rows)
    log.add("resumed", _loss(finished, len(rows) - finished), {"lost": len(rows), "finished": finished})
    return recovered


def _loss(finished: int, in_training: int) -> str:
    """What was lost with a driver, in words."""
    if not finished and not in_training:
        return "nothing was lost with the last driver"
    return (
        f"{finished:,} runs had finished and were not yet committed; {in_training:,} were in training. "
        "All of them are trained again"
    )


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
