"""Limits on visitors of the page: events and files in progress, and failed attempts to log in.

A file is sent inside the call of its event, so the bytes of calls include those of files. They are reserved
by the request's Content-Length, before the body is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.responses import Response
from starlette.types import Message, Scope, Send

from heart.http.messages import route_path
from heart.http.problems import problem_response
from heart.http.quotas import Attempts, Quota, QuotaExceeded, Reservations, client_of
from heart.locale.language import translate_all
from serve.page_paths import LOGIN
from serve.ui.uploads import MAX_ENCODED

MAX_CALL_BYTES = MAX_ENCODED + 64 * 1024  # a file, and the rest of its call
MAX_LOGIN_BYTES = 4096
# A visitor causes a few events at a time; a clinic's visitors may share one address.
EACH = Quota(requests=16, bytes=2 * MAX_CALL_BYTES)
TOTAL = Quota(requests=64, bytes=8 * MAX_CALL_BYTES)
LOGIN_SECONDS = 60.0
LOGINS_EACH, LOGINS_TOTAL = 10, 300  # that fail within LOGIN_SECONDS


class Visitors:
    """What the visitors of one page have in progress."""

    def __init__(self) -> None:
        self._calls = Reservations(EACH, TOTAL)
        self._logins = Attempts(LOGINS_EACH, LOGINS_TOTAL, LOGIN_SECONDS)

    @contextmanager
    def admitted(self, scope: Scope, length: int) -> Iterator[None]:
        """Count a call or a log-in with a body of `length` bytes. Raises QuotaExceeded."""
        client = client_of(scope)
        if route_path(scope) == LOGIN:
            self._logins.check(client)
        with self._calls.reserve(client, length):
            yield

    def count_failures(self, scope: Scope, send: Send) -> Send:
        """`send` that counts a log-in as failed if the response is an error."""
        if route_path(scope) != LOGIN:
            return send

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                self._logins.fail(client_of(scope))
            await send(message)

        return send_counted


def max_bytes(path: str) -> int:
    """The maximum length of a body."""
    return MAX_LOGIN_BYTES if path == LOGIN else MAX_CALL_BYTES


def too_many(error: QuotaExceeded) -> Response:
    """The response to a request beyond a limit; the page shows `error`."""
    own = ("too-many-requests", "page.too_many")
    kind, key = own if error.own else ("overloaded", "page.unavailable")
    text = translate_all(key)
    return problem_response(kind, text, {"Retry-After": str(error.seconds)}, error=text)
