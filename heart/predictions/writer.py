"""Group commit: one thread takes all waiting records and writes them in one transaction.

1. `append` puts a request into a queue and returns its future, for an event loop or a thread to wait for.
2. The thread takes everything from the queue (`_gather`) and commits it as one group (`_commit`).
3. It then resolves all futures of the group: each caller returns after its own record is durable.
4. Requests that arrive during a commit form the next group. No timer is needed: the slower the disk,
   the larger the groups. A job for the thread (`run_on_writer`) ends a group, so that order is kept.
5. If the database rejects a group, each request is committed by itself, so that only the bad one fails.
   If the connection breaks, the group is written again; ids that are in the log already are skipped.

Example: a commit takes 5 ms and a request arrives every 0.1 ms. One commit for each request would allow 200
requests in a second; groups of about 50 allow all 10,000, each after at most two commits, 10 ms.
Source: DeWitt et al. (1984), "Implementation techniques for main memory database systems".
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from heart.predictions.clock import ClockNotTrusted
from heart.predictions.tables import (
    AnswerErased,
    KeyReused,
    LogConfigurationError,
    LogQueueFull,
    LogRejected,
    LogUnavailable,
    OutcomeConflict,
    Record,
    ShadowRecord,
    UnknownPrediction,
)

T = TypeVar("T")

COMMIT_SECONDS = 15.0  # limit of a commit, with the wait for earlier ones
ATTEMPTS = 2  # the second has a new connection; ids make it safe to write the same record twice
GROUP_ROWS = 10_000  # a group of this size takes no further request

# Errors that are no failure of the database, so that a second attempt would end in the same way.
DECISIONS = (
    LogRejected,
    UnknownPrediction,
    OutcomeConflict,
    ClockNotTrusted,
    KeyReused,
    AnswerErased,
)

logger = logging.getLogger(__name__)


class Store(Protocol):
    """The database operations of the log; `SqliteStore` documents each."""

    def connect(self) -> None: ...
    def insert(self, records: Sequence[Record], now: datetime) -> None: ...
    def insert_shadows(self, rows: Sequence[ShadowRecord]) -> None: ...
    def transaction(self) -> AbstractContextManager[Connection]: ...
    def reading(self) -> AbstractContextManager[Connection]: ...
    def scrub(self) -> bool: ...
    def compact(self) -> bool: ...
    def inspect(self, seconds: float) -> tuple[str | None, bool]: ...
    def file(self) -> Any: ...
    def disconnect(self) -> None: ...
    def close(self) -> None: ...
    def rejects(self, error: Exception) -> bool: ...
    def reason(self, error: Exception) -> str: ...


@dataclass
class Stats:
    """Counts since the start: commits, their rows, failed attempts."""

    commits: int = 0
    rows: int = 0
    failures: int = 0


@dataclass(slots=True)
class _Request:
    records: Sequence[Record]
    future: Any  # of asyncio if `loop` is set, otherwise of concurrent.futures
    loop: asyncio.AbstractEventLoop | None


class GroupCommitWriter:
    """One thread, the only one that writes to the store; see `PredictionLog` for the arguments."""

    def __init__(
        self,
        store: Store,
        queue_limit: int,
        retry_after: float,
        clock: Callable[[], datetime],
        on_commit: Callable[[int, float], None],
    ) -> None:
        self.stats = Stats()
        self.failed = False  # whether there was a failure, and no commit of records since
        self._store = store
        self._limit = queue_limit
        self._retry_after = retry_after
        self._late = LogUnavailable(f"no answer within {COMMIT_SECONDS:g} s", retry_after)
        self._clock = clock
        self._on_commit = on_commit
        self._queue: SimpleQueue[_Request | Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()  # of the queue and the next three attributes
        self._waiting = 0
        self._reason = "it is not started"
        self._down_until = inf  # monotonic; inf while there is no thread
        self._stopped = False
        self._opened = False
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self, timeout: float) -> None:
        """Start the thread, unless it runs, and connect.

        Raises LogConfigurationError, LogUnavailable, TimeoutError.
        """
        if self._thread.is_alive():
            return
        self._down_until = 0.0
        self._thread.start()
        self.run_on_writer(lambda: None, timeout)

    def close(self, timeout: float) -> None:
        """Reject further records, write waiting ones, close the store."""
        with self._lock:
            self._down_until, self._reason = inf, "it is closed"
        if self._thread.is_alive():
            self._queue.put(self._stop)
            self._thread.join(timeout)
            if self._thread.is_alive():
                logger.error("The prediction log did not close within %g s", timeout)
        else:  # the log was only read
            self._store.close()

    @property
    def accepts(self) -> bool:
        """Whether it is started and not closed."""
        return self._down_until < inf

    def append(self, records: Sequence[Record]) -> "asyncio.Future[None]":
        """A future that is done once all records are durable; it raises LogUnavailable or LogRejected."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._enqueue(_Request(records, future, loop), len(records))
        # For example, the database does not answer, or its name is not resolved. One timer: `asyncio.wait`
        # and `asyncio.timeout` take as long as the model.
        timer = loop.call_later(COMMIT_SECONDS, _resolve, [future], self._late)
        future.add_done_callback(lambda _: timer.cancel())
        return future

    def append_sync(self, records: Sequence[Record]) -> None:
        """`append` for a thread without an event loop."""
        request = _Request(records, Future(), None)
        self._enqueue(request, len(records))
        request.future.result()

    def run_on_writer(self, job: Callable[[], T], timeout: float | None = None, rows: int = 0) -> T:
        """Run a job in the thread between two commits, and return its result. Raises the errors of the job,

        LogUnavailable and LogConfigurationError, and TimeoutError after `timeout` seconds. The `rows` of
        predictions that it writes wait like others, also after that time.
        """
        future: Future[T] = Future()
        self._enqueue(lambda: self._run_job(future, job, rows), rows)
        return future.result(timeout)

    def _enqueue(self, item: _Request | Callable[[], None], rows: int) -> None:
        """Admit what writes so many rows of predictions. Raises LogUnavailable."""
        with self._lock:
            # A job without such rows is tried even then: it may find that the database is there again.
            if not self.accepts or (rows and monotonic() < self._down_until):
                error = LogUnavailable(self._reason, self._retry_after)
            elif self._waiting + rows > self._limit:
                error = LogQueueFull(f"{self._waiting} records wait", self._retry_after)
            else:
                self._waiting += rows
                self._queue.put(item)
                return
        raise error

    def _run(self) -> None:
        while not self._stopped:
            requests, job = self._gather()
            if requests:
                self._commit(requests)
            if job:
                job()
        self._store.close()

    def _stop(self) -> None:
        self._stopped = True

    def _gather(self) -> tuple[list[_Request], Callable[[], None] | None]:
        """Wait for work; return all waiting requests up to the first job, and that job."""
        requests: list[_Request] = []
        rows = 0
        item = self._queue.get()
        while isinstance(item, _Request):
            requests.append(item)
            rows += len(item.records)
            if rows >= GROUP_ROWS:
                return requests, None
            try:
                item = self._queue.get_nowait()
            except Empty:
                return requests, None
        return requests, item

    def _commit(self, requests: list[_Request]) -> None:
        records = [record for request in requests for record in request.records]
        started = perf_counter()
        failure: LogRejected | LogUnavailable | None = None
        try:
            self._attempt(lambda: self._insert(records))
        except LogRejected as error:
            if len(requests) > 1:  # the other requests may be valid
                for request in requests:
                    self._commit([request])
                return
            failure = error
        except LogConfigurationError as error:
            failure = LogUnavailable(str(error), self._retry_after)
        except LogUnavailable as error:
            failure = error
        seconds = perf_counter() - started
        if failure is None:
            self.count(len(records))
            self.failed = False
        self._settle(requests, len(records), failure)
        if failure is None:  # those who wait do not wait for it
            self.report(len(records), seconds)

    def _insert(self, records: list[Record]) -> None:
        try:
            self._store.insert(records, self._clock())
        except Exception as error:
            if self._store.rejects(error):
                kind = type(error).__name__
                raise LogRejected(f"the records do not fit the table ({kind})") from None
            raise

    def _run_job(self, future: Future[T], job: Callable[[], T], rows: int) -> None:
        try:
            result = self._attempt(job)
        except Exception as error:  # noqa: BLE001  # the waiting thread raises it
            self._release(rows)
            future.set_exception(error)
        else:
            self._release(rows)
            future.set_result(result)

    def _release(self, rows: int) -> None:
        with self._lock:
            self._waiting -= rows

    def _attempt(self, work: Callable[[], T]) -> T:
        """Run the work with a connection; if that fails, once more with a new one.

        The first attempt may have been committed before its connection broke: the second skips its ids.
        """
        reason = ""
        for _ in range(ATTEMPTS):
            try:
                self._store.connect()
                result = work()
            except DECISIONS:
                raise
            except LogConfigurationError as error:
                self._mark_down(
                    str(error), logged=self._opened
                )  # else the caller of `start` reports it
                raise
            except Exception as error:  # noqa: BLE001  # a caller must never wait forever
                reason = self._store.reason(error)
                self._store.disconnect()
            else:
                self._mark_up()
                return result
        self._mark_down(reason)
        raise LogUnavailable(reason, self._retry_after)

    def _mark_down(self, reason: str, logged: bool = True) -> None:
        self.stats.failures += 1
        self.failed = True
        if logged and not self._down_until:
            logger.error("The prediction log cannot be written: %s", reason)
        with self._lock:
            if self._down_until < inf:
                self._down_until, self._reason = monotonic() + self._retry_after, reason

    def _mark_up(self) -> None:
        self._opened = True
        if 0 < self._down_until < inf:
            logger.warning("The prediction log can be written again")
            with self._lock:
                if self._down_until < inf:
                    self._down_until = 0.0

    def _settle(
        self, requests: list[_Request], rows: int, failure: LogRejected | LogUnavailable | None
    ) -> None:
        """Resolve all futures: with one call into each event loop, whatever their number."""
        self._release(rows)
        loops: dict[asyncio.AbstractEventLoop, list[Any]] = {}
        for request in requests:
            if request.loop is None:
                _resolve([request.future], failure)
            else:
                loops.setdefault(request.loop, []).append(request.future)
        for loop, futures in loops.items():
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_resolve, futures, failure)

    def count(self, rows: int) -> None:
        """Count a commit of records."""
        self.stats.commits += 1
        self.stats.rows += rows

    def report(self, rows: int, seconds: float) -> None:
        """Call `on_commit` after a commit of records."""
        try:
            self._on_commit(rows, seconds)
        except Exception:
            logger.exception("on_commit of the prediction log failed")


def _resolve(futures: list[Any], failure: LogRejected | LogUnavailable | None) -> None:
    for future in futures:
        if future.done():  # the caller was cancelled
            continue
        if failure is None:
            future.set_result(None)
        else:
            # A new error for each: this one has the driver's as its context, which may quote the record,
            # and an error that is raised in many places collects all their tracebacks.
            future.set_exception(type(failure)(*failure.args))
