"""Admission control: under overload, requests are rejected before anything is done for them.

A rejection must cost much less than an answer. Otherwise an overloaded service spends its time on
rejections: if an answer takes 100 us and a rejection 50 us, 20,000 rejections a second take all of it.
So the decision is one comparison, made before routing, validation and authentication, and the body of the
response is encoded in advance:

    limiter.active < limiter.limit   ->  a slot is taken until the response is sent
    otherwise                        ->  503 with Retry-After, counted as shed

Safe methods (GET, HEAD, OPTIONS) need no slot: they are cheap, and health checks and scrapes must work
under overload; the streams of the page last as long as its tab. `heart/http/concurrency.py` has the limiter
and the source of the method.
"""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from heart.http.concurrency import ConcurrencyLimiter
from heart.http.messages import SAFE_METHODS, error_body, send_json

OVERLOADED = error_body("too many requests in progress")
NOT_FOUND = error_body("the path has a control character: no route has one")
RETRY_AFTER = (b"retry-after", b"1")


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
        elif scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
        elif self.limiter.full:
            self.on_shed(scope["method"])
            await send_json(send, 503, OVERLOADED, RETRY_AFTER)
        else:
            with self.limiter:
                await self.app(scope, receive, send)
