"""Reading the body of a request within limits of length, time and memory."""

from starlette.types import Message, Receive, Scope

from heart.http.concurrency import ConcurrencyLimiter, Overloaded
from heart.http.messages import header
from heart.http.problems import Problem


async def read_body(
    scope: Scope,
    receive: Receive,
    max_bytes: int,
    limiter: ConcurrencyLimiter,
    *,
    has_slot: bool = True,
) -> bytes:
    """The body of a request, which holds no concurrency slot while its body arrives.

    Raises 413 if it is too long, 408 if it is not complete in time, and Overloaded.
    """
    length = header(scope, b"content-length")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_long(max_bytes)
    limiter.active -= has_slot
    try:
        with limiter.deadline:
            body = await _read(receive, max_bytes, limiter)
    except TimeoutError:
        seconds = limiter.deadline.seconds
        raise Problem(
            "body-timeout", f"the request body was not complete within {seconds:g} s"
        ) from None
    finally:
        limiter.active += has_slot
    if has_slot and limiter.active > limiter.limit:
        raise Overloaded
    return body


async def _read(receive: Receive, max_bytes: int, limiter: ConcurrencyLimiter) -> bytes:
    body, more = await _part(receive)
    if not more:  # nothing to count: as a rule the first part is all of it
        if len(body) > max_bytes:
            raise _too_long(max_bytes)
        return body
    parts, length = [body], 0
    try:
        while True:
            length += len(parts[-1])
            limiter.hold(len(parts[-1]), length)
            if length > max_bytes:
                raise _too_long(max_bytes)
            if not more:
                return b"".join(parts)
            body, more = await _part(receive)
            parts.append(body)
    finally:
        limiter.release(length)


async def _part(receive: Receive) -> tuple[bytes, bool]:
    """A part of a body, and whether there are more."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Problem("bad-request", "the client disconnected")
    return message.get("body", b""), message.get("more_body", False)


def _too_long(max_bytes: int) -> Problem:
    detail = f"the request body is longer than {max_bytes} bytes"
    return Problem("body-too-long", detail, max_bytes=max_bytes)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns a body once more, for an application that reads it itself."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_again() -> Message:
        return next(messages, None) or await receive()

    return receive_again
