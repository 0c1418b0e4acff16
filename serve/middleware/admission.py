"""Admission control: under overload, requests are rejected before anything is done for them.

Most are rejected earlier, by the server's protocol (`heart/http/gate.py`, which also says why a rejection
must cost little). The decision here holds for any server, and counts the slots. It is one comparison, made
before routing and validation:

    limiter.active < limiter.limit   ->  a slot is taken until the response is sent
    otherwise                        ->  503 with Retry-After, counted as shed

Safe methods (GET, HEAD, OPTIONS) need no slot: they are cheap, and health checks and scrapes must work
under overload. Nor do log-ins, which strangers send. `heart/http/concurrency.py` has the limiter and the
source of the method.
"""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from heart.http.concurrency import ConcurrencyLimiter
from heart.http.messages import SAFE_METHODS, route_path
from heart.http.problems import PAGE, PROBLEM_JSON, encode, problem, send_problem
from heart.http.request_id import NAME, id_of
from heart.http.security_headers import NO_STORE_HEADERS
from heart.http.sub_path import SubPath
from serve.page_paths import LOGIN

OVERLOADED = ("overloaded", "too many requests in progress")
NOT_FOUND = ("not-found", "the path has a control character: no route has one")
RETRY_AFTER = (b"retry-after", b"1")
PLACEHOLDER = "0" * 16  # of a request id
SLOT = "heart.slot"  # the key in the scope of a request that has a concurrency slot


def takes_slot(scope: Scope, prefix: str = "") -> bool:
    """Whether a request takes a concurrency slot; `prefix` is a sub-path that may begin its path."""
    return scope["method"] not in SAFE_METHODS and route_path(scope, prefix) != LOGIN


def encoded_rejection(sub_path: SubPath) -> Callable[[Scope], bytes]:
    """The rejection for overload as the gate sends it, given a request: what follows the status line."""
    headers = [(b"content-type", PROBLEM_JSON.encode()), RETRY_AFTER, *NO_STORE_HEADERS]
    head = b"".join(b"%b: %b\r\n" % header for header in headers)
    rejection = encode(problem(*OVERLOADED, PLACEHOLDER, sub_path=""))
    start, _, rest = rejection.partition(PAGE.encode())
    before, _, after = rest.partition(PLACEHOLDER.encode())
    own = sub_path.path.encode() + PAGE.encode()

    def page_of(scope: Scope) -> bytes:
        try:
            forwarded = sub_path.forwarded(scope)
        except ValueError:
            return own
        return own if forwarded is None else forwarded.encode() + PAGE.encode()

    def response(scope: Scope) -> bytes:
        request_id = id_of(scope).encode()
        page = page_of(scope) if sub_path.trust_forwarded else own
        body = b"".join((start, page, before, request_id, after))
        return b"%b%b: %b\r\ncontent-length: %d\r\n\r\n%b" % (
            head,
            NAME,
            request_id,
            len(body),
            body,
        )

    return response


def has_slot(scope: Scope) -> bool:
    """Whether a request has a concurrency slot."""
    return SLOT in scope


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
            await send_problem(send, *NOT_FOUND)
        elif not takes_slot(scope):
            await self.app(scope, receive, send)
        elif self.limiter.full:
            self.on_shed(scope["method"])
            await send_problem(send, *OVERLOADED, [RETRY_AFTER])
        else:
            scope[SLOT] = True
            with self.limiter:
                await self.app(scope, receive, send)
