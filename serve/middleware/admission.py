"""Admission control: under overload, requests are rejected before anything is done for them.

Most are rejected earlier, by the server's protocol (`heart/http/gate.py`, which also says why a rejection
must cost little). The decision here holds for any server, and counts the slots. It is one comparison, made
before routing and validation, and the body of the response is encoded in advance:

    limiter.active < limiter.limit   ->  a slot is taken until the response is sent
    otherwise                        ->  503 with Retry-After, counted as shed

Safe methods (GET, HEAD, OPTIONS) need no slot: they are cheap, and health checks and scrapes must work
under overload. Nor do log-ins, which strangers send. `heart/http/concurrency.py` has the limiter and the
source of the method.
"""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from heart.http.concurrency import ConcurrencyLimiter
from heart.http.messages import SAFE_METHODS, error_body, route_path, send_json
from heart.http.security_headers import NO_STORE_HEADERS
from serve.page_paths import LOGIN

OVERLOADED = error_body("too many requests in progress")
NOT_FOUND = error_body("the path has a control character: no route has one")
RETRY_AFTER = (b"retry-after", b"1")


def takes_slot(scope: Scope, prefix: str = "") -> bool:
    """Whether a request takes a concurrency slot; `prefix` is a sub-path that may begin its path."""
    return scope["method"] not in SAFE_METHODS and route_path(scope, prefix) != LOGIN


def encoded_rejection() -> bytes:
    """The rejection for overload as the gate sends it: what follows the status line."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(OVERLOADED)),
        RETRY_AFTER,
        *NO_STORE_HEADERS,
    ]
    return b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n" + OVERLOADED


class AdmissionControlMiddleware:
    """Rejects requests beyond the limiter's number of slots."""

    def __init__(
        self, app: ASGIApp, limiter: ConcurrencyLimiter, on_shed: Callable[[str], None]
    ) -> None:
        """`on_shed` takes the method of a rejected request."""
        self.app = app
        self.limiter = limiter
        self.on_shed = on_shed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif not scope["path"].isprintable():
            # A route's pattern matches "/metrics\n" like "/metrics"; a proxy may block only the latter.
            await send_json(send, 404, NOT_FOUND)
        elif not takes_slot(scope):
            await self.app(scope, receive, send)
        elif self.limiter.full:
            self.on_shed(scope["method"])
            await send_json(send, 503, OVERLOADED, RETRY_AFTER)
        else:
            with self.limiter:
                await self.app(scope, receive, send)
