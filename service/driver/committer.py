"""Commits rows in the background, one batch at a time, so that a slow storage does not keep the workers waiting."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from service.driver.rows import Batch
from service.ledger.shards import Ledger
from service.records.events import EventLog
from service.records.progress import Attempts, StudyStatus, write_progress

DELETERS = 16
# With this many rows the driver waits for their commit. On a disk a commit takes computing time, so that nothing is
# gained by putting it off, and rows that wait take memory. In an object store it mostly waits for replies, so that few
# large commits are quicker.
LOCAL_ROWS = 8_000
REMOTE_ROWS = 50_000


class Committer:
    """Collects rows in :attr:`batch`; :meth:`flush` hands them to a thread that writes them."""

    def __init__(self, ledger: Ledger, log: EventLog) -> None:
        self._ledger, self._log = ledger, log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._commit: Future[None] | None = None
        self._committing: Attempts = []
        self.batch = Batch()
        self._most_rows = REMOTE_ROWS if ledger.storage.is_remote else LOCAL_ROWS

    @property
    def is_full(self) -> bool:
        """Whether the batch should wait no longer."""
        return self.batch.size >= self._most_rows

    def uncommitted(self) -> Attempts:
        """Attempts that have ended and would be lost if the driver died now."""
        commit = self._commit
        committed = commit is not None and commit.done() and commit.exception() is None
        return [*([] if committed else self._committing), *_attempts(self.batch)]

    def flush(self, status: StudyStatus, in_flight: Attempts, wait: bool) -> None:
        """Commit the batch after the one before; without ``wait``, not yet if that one is still being written.

        Raises what went wrong with the one before, or with this one if it waits.
        """
        if self._commit is not None:
            if not wait and not self._commit.done():
                return
            self._commit.result()
        batch, self.batch = self.batch, Batch()
        self._committing = _attempts(batch)
        self._commit = self._thread.submit(self._write, batch, status, in_flight, self._committing)
        if wait:
            self._commit.result()
            self._committing = []

    def close(self) -> None:
        """Wait for the thread."""
        self._thread.shutdown(wait=True)

    def _write(self, batch: Batch, status: StudyStatus, in_flight: Attempts, ended: Attempts) -> None:
        # First what would be lost, so that the next driver can tell which attempts died with this one.
        write_progress(self._ledger.storage, status, [*in_flight, *ended], ended=ended, durable=False)
        if batch.size:
            self._ledger.commit(runs=batch.runs, points=batch.points, attempts=batch.attempts)
            self._ledger.compact()
        # There is a checkpoint for each pack: to delete them one by one may take an object store longer than training.
        if batch.spent:
            with ThreadPoolExecutor(DELETERS, thread_name_prefix="spent") as pool:
                list(pool.map(self._ledger.storage.delete, batch.spent))
        self._log.flush()


def _attempts(batch: Batch) -> Attempts:
    return [(row["run_id"], row["attempt"]) for row in batch.runs]
