"""Admission of requests, a deadline for what a client may draw out, measurement."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from fastapi import HTTPException
from fastapi.telemetry import TelemetryConfig
from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heart.log_format import described

CLIENT_SECONDS = 10.0  # for the body of a request to come, and for its answer to be taken
READING = ("GET", "HEAD", "OPTIONS")  # cheap, or streams of the page, which last as long as its tab
# What is kept of bodies that are on their way: so many of the longest, and short ones beside them. As many
# long ones may be in work.
LONG_BODIES, SHORT = 8, 16 * 1024
# OpenTelemetry would record what was refused, and that is what somebody wrote of a patient.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
REFUSAL = json.dumps({"detail": "too many requests at once"}).encode()
NOT_FOUND = json.dumps({"detail": "no path has a control character"}).encode()
RETRY = (b"retry-after", b"1")
CLOSE = (b"connection", b"close")  # before the connection is closed under a request on its way
FAULT = json.dumps({"detail": "a fault of the service"}).encode()

logger = logging.getLogger(__name__)


class ClientDeadline:
    """Ends what takes longer than `seconds`: a block under it raises TimeoutError.

    `enforce` checks all of them once a second. A timer for each, as of `asyncio.timeout`, costs about
    as much as scoring a patient.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[asyncio.Task[object], float] = {}
        self._ended: set[asyncio.Task[object]] = set()

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._since[task] = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        del self._since[task]
        if task in self._ended:
            self._ended.discard(task)
            if task.uncancel() == 0 and kind is asyncio.CancelledError:
                raise TimeoutError from None

    async def enforce(self) -> None:
        """Check once a second, until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self.seconds))
            self._end(time.monotonic() - self.seconds)

    def _end(self, before: float) -> None:
        for task, since in self._since.items():
            if since > before:
                return  # they are in the order of time
            if task not in self._ended:
                self._ended.add(task)
                task.cancel()


class Overloaded(Exception):
    """Too many requests, or too long ones, are in work."""


class ConcurrencyLimiter:
    """A bounded count of requests in progress, and the deadline for their clients.

    Who waits for its client takes nobody's place, but only some bytes, which are bounded too.
    """

    def __init__(self, limit: int, max_body_bytes: int) -> None:
        self.limit = limit
        self.active = 0
        self.draining = False
        self.patience = ClientDeadline(CLIENT_SECONDS)
        self.held = 0  # bytes of bodies that are not whole yet
        self._long = 0  # bodies in work
        self._most = LONG_BODIES * max_body_bytes

    @property
    def full(self) -> bool:
        """Whether another request must be refused."""
        return self.active >= self.limit

    def hold(self, count: int, length: int) -> None:
        """Keep so many more bytes of a body of this length until now. Raises Overloaded."""
        self.held += count
        if length > SHORT and self.held > self._most:
            raise Overloaded

    @contextmanager
    def long_body(self) -> Iterator[None]:
        """Keep a long body, and what is made of it, for as long as this lasts. Raises Overloaded."""
        if self._long >= LONG_BODIES:
            raise Overloaded
        self._long += 1
        try:
            yield
        finally:
            self._long -= 1

    def __enter__(self) -> None:
        self.active += 1

    def __exit__(self, *_: object) -> None:
        self.active -= 1


class RequestMetrics(Protocol):
    """What is counted of requests."""

    refused: Counter

    def shed(self, method: str) -> None:
        """Count a request that is rejected for load before its route is looked for."""

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""


class AdmissionControlMiddleware:
    """Rejects what is too much, times and counts every response.

    A refusal must be much cheaper than an answer, or refusing is all that is done under load: so it
    is made here, before any route is looked for.
    """

    def __init__(
        self, app: ASGIApp, admission: ConcurrencyLimiter, metrics: RequestMetrics
    ) -> None:
        self.app = app
        self.admission = admission
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif not scope["path"].isprintable():
            # A route's pattern takes "/metrics\n" for "/metrics", where a proxy may know only the latter.
            await _answer(send, 404, NOT_FOUND)
        elif scope["method"] in READING:
            await self._observe(scope, receive, send)
        elif self.admission.full:
            self.metrics.shed(method_label(scope["method"]))
            await _answer(send, 503, REFUSAL, RETRY)
        else:
            with self.admission:
                await self._observe(scope, receive, _patient(send, self.admission.patience))

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, status = time.perf_counter(), 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.admission.draining:
                    message["headers"].append(CLOSE)
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except Overloaded:
            self.metrics.refused.inc()
            await _answer(observed, 503, REFUSAL, RETRY)
        except Exception as error:  # noqa: BLE001  # nothing above this would keep its text to itself
            report_error(error)
            if not status:
                await _answer(observed, 500, FAULT)
        finally:
            # The template and never the path: a path is the client's, and may hold anything.
            route = getattr(scope.get("route"), "path", "page")
            self.metrics.answered(
                method_label(scope["method"]), route, status or 500, time.perf_counter() - start
            )


def _patient(send: Send, patience: ClientDeadline) -> Send:
    """`send` for one who holds a place: what a client does not take in time is dropped, with the rest.

    The head of an answer goes with the first of its body, under one patience: that costs about as
    much as sending does.
    """
    head: Message | None = None
    gone = False

    async def send_or_drop(message: Message) -> None:
        nonlocal head, gone
        if message["type"] == "http.response.start":
            head = message
        elif not gone:
            try:
                with patience:
                    if head is not None:
                        await send(head)
                        head = None
                    await send(message)
            except TimeoutError:
                gone = True

    return send_or_drop


def report_error(error: Exception) -> None:
    """Log its type and place. Not its message, which may quote what somebody wrote of a patient."""
    logger.error("A request failed\n%s", described(error))


async def _answer(send: Send, status: int, body: bytes, *more: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    headers = [(b"content-type", b"application/json"), length, *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def method_label(method: str) -> str:
    """A method for a metric: clients may send any text as one."""
    return method if method in (*READING, "POST", "DELETE", "PUT") else "other"


def header(scope: Scope, wanted: bytes) -> bytes:
    """The value of a request's header, empty if it has none of this name."""
    return next((value for name, value in scope["headers"] if name == wanted), b"")


async def whole_body(
    scope: Scope, receive: Receive, limit: int, admission: ConcurrencyLimiter
) -> bytes:
    """The body of a request. Raises 413 once it is too long, 408 if it does not come in time, Overloaded."""
    declared = header(scope, b"content-length")
    if declared.isdigit() and int(declared) > limit:
        raise _too_long(limit)
    place = scope["method"] not in READING
    admission.active -= place
    try:
        with admission.patience:
            body = await _read(receive, limit, admission)
    except TimeoutError:
        seconds = admission.patience.seconds
        raise HTTPException(408, f"the body did not come within {seconds:g} s") from None
    finally:
        admission.active += place
    if place and admission.active > admission.limit:
        raise Overloaded
    return body


async def _read(receive: Receive, limit: int, admission: ConcurrencyLimiter) -> bytes:
    chunks, length, more = [], 0, True
    try:
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "the client went away")
            chunks.append(message.get("body", b""))
            more = message.get("more_body", False)
            length += len(chunks[-1])
            admission.hold(len(chunks[-1]), length)
            if length > limit:
                raise _too_long(limit)
    finally:
        admission.held -= length
    return b"".join(chunks)


def _too_long(limit: int) -> HTTPException:
    return HTTPException(413, f"the body is longer than {limit} bytes")


def again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for one who reads it again."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def read_again() -> Message:
        return next(messages, None) or await receive()

    return read_again
