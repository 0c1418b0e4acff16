"""The thread that writes the prediction log: it takes all that waits and commits it together."""

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

from heart.predictions.tables import (
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

COMMIT_SECONDS = 15.0  # for a commit, waiting for those before it included
ATTEMPTS = 2  # the second has a new connection; ids make it safe to write the same thing twice
GROUP_ROWS = 10_000  # a group that has this many rows grows no further

logger = logging.getLogger(__name__)


class Store(Protocol):
    """What the log needs of a database; `SqliteStore` says what each does."""

    def connect(self) -> None: ...
    def insert(self, records: Sequence[Record], now: datetime) -> None: ...
    def insert_shadows(self, rows: Sequence[ShadowRecord]) -> None: ...
    def transaction(self) -> AbstractContextManager[Connection]: ...
    def reading(self) -> AbstractContextManager[Connection]: ...
    def scrub(self) -> None: ...
    def disconnect(self) -> None: ...
    def close(self) -> None: ...
    def rejects(self, error: Exception) -> bool: ...
    def reason(self, error: Exception) -> str: ...


@dataclass
class Stats:
    """Since the start: commits and their rows, tries that failed."""

    commits: int = 0
    rows: int = 0
    failures: int = 0


@dataclass(slots=True)
class _Request:
    records: Sequence[Record]
    future: Any  # of asyncio if there is a loop, otherwise of concurrent.futures
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
        self.failed = False  # whether the database took no records when it was last given some
        self._store = store
        self._limit = queue_limit
        self._retry_after = retry_after
        self._clock = clock
        self._on_commit = on_commit
        self._queue: SimpleQueue[_Request | Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()  # over what is handed over and the three that follow
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
        """Refuse what comes from now on, write what waits, close the store."""
        with self._lock:
            self._down_until, self._reason = inf, "it is closed"
        if self._thread.is_alive():
            self._queue.put(self._stop)
            self._thread.join(timeout)
            if self._thread.is_alive():
                logger.error("The prediction log has not closed within %g s", timeout)
        else:  # it was only read from
            self._store.close()

    async def append(self, records: Sequence[Record]) -> None:
        """Return once all records are durable. Raises LogUnavailable, LogRejected."""
        loop = asyncio.get_running_loop()
        request = _Request(records, loop.create_future(), loop)
        self._admit(request)
        done, _ = await asyncio.wait([request.future], timeout=COMMIT_SECONDS)
        if not done:
            # A database that says nothing, or a name that nobody resolves: who waits is told in time.
            request.future.cancel()
            raise LogUnavailable(f"no answer within {COMMIT_SECONDS:g} s", self._retry_after)
        request.future.result()

    def append_sync(self, records: Sequence[Record]) -> None:
        """`append` for a thread without an event loop."""
        request = _Request(records, Future(), None)
        self._admit(request)
        request.future.result()

    def run_on_writer(self, job: Callable[[], T], timeout: float | None = None) -> T:
        """Have the thread do it between two commits, and wait. Raises what it raises.

        Also LogUnavailable and LogConfigurationError, and TimeoutError after `timeout` seconds.
        """
        future: Future[T] = Future()
        with self._lock:
            running = self._down_until < inf
            if running:
                self._queue.put(lambda: self._answer(future, job))
        if not running:
            raise LogUnavailable(self._reason, self._retry_after)
        return future.result(timeout)

    def _admit(self, request: _Request) -> None:
        rows = len(request.records)
        with self._lock:
            if monotonic() < self._down_until:
                refusal = LogUnavailable(self._reason, self._retry_after)
            elif self._waiting + rows > self._limit:
                refusal = LogQueueFull(f"{self._waiting} records wait", self._retry_after)
            else:
                self._waiting += rows
                self._queue.put(request)
                return
        raise refusal

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
        """Wait for work; then all requests that wait, up to the first job."""
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
            if len(requests) > 1:  # the others are not to blame
                for request in requests:
                    self._commit([request])
                return
            failure = error
        except LogConfigurationError as error:
            failure = LogUnavailable(str(error), self._retry_after)
        except LogUnavailable as error:
            failure = error
        if failure is None:
            self._report(len(records), perf_counter() - started)
        if not isinstance(failure, LogRejected):
            self.failed = failure is not None
        self._settle(requests, len(records), failure)

    def _insert(self, records: list[Record]) -> None:
        try:
            self._store.insert(records, self._clock())
        except Exception as error:
            if self._store.rejects(error):
                kind = type(error).__name__
                raise LogRejected(f"the records do not fit the table ({kind})") from None
            raise

    def _answer(self, future: Future[T], job: Callable[[], T]) -> None:
        try:
            result = self._attempt(job)
        except Exception as error:  # noqa: BLE001  # it is raised again where it is waited for
            future.set_exception(error)
        else:
            future.set_result(result)

    def _attempt(self, work: Callable[[], T]) -> T:
        """Do it with a connection; once more with a fresh one if the first does not work.

        The first may have been committed when its connection broke: the second then finds its ids.
        """
        reason = ""
        for _ in range(ATTEMPTS):
            try:
                self._store.connect()
                result = work()
            except (LogRejected, UnknownPrediction, OutcomeConflict):
                raise
            except LogConfigurationError as error:
                self._mark_down(str(error), told=not self._opened)  # by whoever starts it
                raise
            except Exception as error:  # noqa: BLE001  # nobody may wait for ever, whatever it was
                reason = self._store.reason(error)
                self._store.disconnect()
            else:
                self._mark_up()
                return result
        self._mark_down(reason)
        raise LogUnavailable(reason, self._retry_after)

    def _mark_down(self, reason: str, told: bool = False) -> None:
        self.stats.failures += 1
        if not self._down_until and not told:
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
        """Tell all who wait: one call into each event loop, however many wait in it."""
        with self._lock:
            self._waiting -= rows
        loops: dict[asyncio.AbstractEventLoop, list[Any]] = {}
        for request in requests:
            if request.loop is None:
                _resolve([request.future], failure)
            else:
                loops.setdefault(request.loop, []).append(request.future)
        for loop, futures in loops.items():
            with suppress(RuntimeError):  # the loop is closed, nobody waits in it
                loop.call_soon_threadsafe(_resolve, futures, failure)

    def _report(self, rows: int, seconds: float) -> None:
        self.stats.commits += 1
        self.stats.rows += rows
        try:
            self._on_commit(rows, seconds)
        except Exception:
            logger.exception("Whoever listens for commits of the prediction log failed")


def _resolve(futures: list[Any], failure: LogRejected | LogUnavailable | None) -> None:
    for future in futures:
        if future.done():  # whoever waited has gone
            continue
        if failure is None:
            future.set_result(None)
        else:
            # A new one for each: this one remembers the driver's, which may quote the record, and one
            # that is raised in many places gathers all their tracebacks.
            future.set_exception(type(failure)(*failure.args))
