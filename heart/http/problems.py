"""Error responses as problem details (RFC 9457): a type for programs, a sentence for people.

    {"type": "/problems#overloaded", "title": "Overload", "status": 503,
     "detail": "too many requests in progress", "instance": "5f2c9ab01d7e4c33"}

The type is the path of a page that the program serves, so that no address of another site is part of the
interface; what follows the `#` is a stable identifier. Below a sub-path of a proxy the path begins with it, so that
the link works there too. `instance` is the id of the request, as in the header X-Request-ID.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from html import escape
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, HTTPException, Request, Response
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope, Send

from heart.log_format import REQUEST_ID

PROBLEM_JSON = "application/problem+json"
PAGE = "/problems"
SUB_PATH = ContextVar("SUB_PATH", default="")  # of the request in progress


class Kind(NamedTuple):
    """One type of problem: its status, its title, what it means and what the client should do."""

    status: int
    title: str
    meaning: str
    action: str


# Of several types with one status, the first is that of errors that a framework raises.
KINDS: dict[str, Kind] = {
    "bad-request": Kind(
        400, "Bad request",
        "The head of the request is invalid, or the connection ended before its body was complete.",
        "Correct the header that the detail names, and send a complete request.",
    ),
    "authentication-required": Kind(
        401, "Authentication required",
        "The bearer token is missing or wrong; on the page, nobody is logged in.",
        "Send the header `Authorization: Bearer TOKEN` with a token of this service.",
    ),
    "invalid-signature": Kind(
        401, "Invalid signature",
        "The signature of an alert does not match its body, or its time stamp is more than five minutes off.",
        "Set the same secret in Grafana and in HEART_RETRAIN_SECRET, and check both clocks.",
    ),
    "insufficient-scope": Kind(
        403, "Insufficient scope",
        "The token is valid, but does not have the scope that the detail names.",
        "Use a token with this scope.",
    ),
    "other-origin": Kind(
        403, "Request of another origin",
        "A browser sent the request for a page of another origin.",
        "Call the API from a program, or from its own page. A proxy must pass the header Host on.",
    ),
    "outcome-of-another": Kind(
        403, "Outcome of another token",
        "Another token recorded a different outcome for this prediction.",
        "Replace it with a token that has the scope admin.",
    ),
    "not-found": Kind(
        404, "Not found",
        "No route has this path.",
        "See /docs for the routes.",
    ),
    "unknown-prediction": Kind(
        404, "Unknown prediction",
        "No prediction has this id: it is wrong, or the prediction was erased or purged.",
        "Check the id. Nothing of an erased prediction is left.",
    ),
    "method-not-allowed": Kind(
        405, "Method not allowed",
        "The path has no such method.",
        "Use a method of the header Allow.",
    ),
    "body-timeout": Kind(
        408, "Body timeout",
        "The body was not complete within 10 seconds.",
        "Send it faster, or in smaller batches.",
    ),
    "outcome-conflict": Kind(
        409, "Outcome conflict",
        "A different outcome is recorded for this prediction.",
        "Send `replace: true` if the new one is right.",
    ),
    "idempotency-key-reused": Kind(
        409, "Idempotency key reused",
        "The key was sent before with another body or other parameters.",
        "Use a new key for each new request.",
    ),
    "prediction-erased": Kind(
        410, "Prediction erased",
        "The request with this idempotency key was answered, and a prediction of the answer was erased since.",
        "Do not repeat the request. To score other patients, use a new key.",
    ),
    "length-required": Kind(
        411, "Length required",
        "A request to the page has no Content-Length.",
        "Send the header Content-Length.",
    ),
    "body-too-long": Kind(
        413, "Body too long",
        "The body is longer than the limit that the detail names.",
        "Send smaller batches, or raise HEART_MAX_BODY_BYTES.",
    ),
    "unsupported-media-type": Kind(
        415, "Unsupported media type",
        "The body is of a media type that the route does not take, or it is compressed.",
        "Send one of the types of the header Accept, without Content-Encoding.",
    ),
    "host-not-allowed": Kind(
        421, "Host not allowed",
        "The request is for a host name that is not allowed.",
        "Use localhost or an IP address, or add the name to the setting that the detail names.",
    ),
    "invalid-request": Kind(
        422, "Invalid request",
        "The body, a query parameter or a header has a value that the schema does not allow.",
        "Correct the values in `errors`.",
    ),
    "too-many-requests": Kind(
        429, "Too many requests",
        "The token sent too many outcomes in a minute, or one address too many events or log-ins on the page.",
        "Wait as many seconds as the header Retry-After has.",
    ),
    "head-too-large": Kind(
        431, "Head too large",
        "The request head is larger than 32 KiB or has more than 100 fields. It is measured as it arrives, so one that "
        "arrives at once may be up to 32 KiB larger.",
        "Send a smaller head.",
    ),
    "internal-error": Kind(
        500, "Internal server error",
        "The program has an error.",
        "Find the request id of `instance` in the service's log.",
    ),
    "unknown-transfer-coding": Kind(
        501, "Unknown transfer coding",
        "The body has a transfer coding other than chunked.",
        "Send the body as it is, with its length or in chunks.",
    ),
    "overloaded": Kind(
        503, "Overload",
        "Too many requests are in progress; this one was rejected before anything was done for it.",
        "Retry after as many seconds as the header Retry-After has.",
    ),
    "no-model": Kind(
        503, "No model",
        "No model is loaded; the detail says why.",
        "Retry after as many seconds as the header Retry-After has; see /health/ready.",
    ),
    "log-unavailable": Kind(
        503, "Prediction log unavailable",
        "The prediction log cannot be read or written, or its queue is full. The prediction does not count.",
        "Retry after as many seconds as the header Retry-After has.",
    ),
    "no-drift-check": Kind(
        503, "No drift check",
        "No drift check is complete yet, or another process makes them.",
        "Retry later.",
    ),
    "registry-unavailable": Kind(
        503, "Registry unavailable",
        "The registry of models does not answer. The model in service stays.",
        "Retry after as many seconds as the header Retry-After has.",
    ),
    "history-unavailable": Kind(
        503, "Run history unavailable",
        "The receiver of alerts cannot read or write the history of its runs.",
        "Check the folder of HEART_RETRAIN_FOLDER.",
    ),
}  # fmt: skip
_BY_STATUS = {kind.status: name for name, kind in reversed(KINDS.items())}


class Problem(HTTPException):
    """An error response of a type, with further members and headers."""

    def __init__(
        self, kind: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(KINDS[kind].status, detail, dict(headers) if headers else None)
        self.kind = kind
        self.members = members

    def response(self) -> Response:
        """The response."""
        return problem_response(self.kind, self.detail, self.headers, **self.members)


def type_uri(kind: str, sub_path: str | None = None) -> str:
    """The URI of a type, a relative one with its full path; by default for the request in progress."""
    return f"{SUB_PATH.get() if sub_path is None else sub_path}{PAGE}#{kind}"


def problem(
    kind: str, detail: str, instance: str = "", sub_path: str | None = None, **members: Any
) -> dict[str, Any]:
    """The members of a problem; id and sub-path are by default those of the request in progress."""
    content: dict[str, Any] = {
        "type": type_uri(kind, sub_path),
        "title": KINDS[kind].title,
        "status": KINDS[kind].status,
        "detail": detail,
    }
    request_id = instance or REQUEST_ID.get()
    if request_id:
        content["instance"] = request_id
    return content | members


def encode(content: Mapping[str, Any]) -> bytes:
    """A problem as JSON. It may quote half of a surrogate pair, which JSON can have and UTF-8 cannot."""
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")


def problem_response(
    kind: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """The response for a problem."""
    body = encode(problem(kind, detail, **members))
    return Response(body, KINDS[kind].status, dict(headers or {}), media_type=PROBLEM_JSON)


def unavailable(kind: str, detail: str, retry_after: float) -> Response:
    """A response 503 that asks the client to retry after some seconds."""
    return problem_response(kind, detail, {"Retry-After": str(max(1, round(retry_after)))})


async def send_problem(
    send: Send, kind: str, detail: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Send a problem from a middleware."""
    body = encode(problem(kind, detail))
    own = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", b"%d" % len(body)),
    ]
    start = {"status": KINDS[kind].status, "headers": [*own, *headers]}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": body})


def answer_with_problems(app: FastAPI) -> None:
    """Answer every HTTPException of an application with a problem, whoever raises it."""

    async def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        if isinstance(error, Problem):
            return error.response()
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = _allowed(app.router.routes, request.scope)
        kind = _BY_STATUS.get(error.status_code)
        if kind is None:
            return _without_type(error, headers)
        phrase = HTTPStatus(error.status_code).phrase
        detail = KINDS[kind].meaning if error.detail == phrase else str(error.detail)
        return problem_response(kind, detail, headers)

    app.add_exception_handler(StarletteHTTPException, handle)


def _without_type(error: StarletteHTTPException, headers: dict[str, str]) -> Response:
    """The response for a status of which no type is; its title is that of HTTP (RFC 9457, 4.2.1)."""
    status = error.status_code
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    body = encode({**content, "detail": str(error.detail), "instance": REQUEST_ID.get()})
    return Response(body, status, headers, media_type=PROBLEM_JSON)


def _allowed(routes: Sequence[BaseRoute], scope: Scope) -> str:
    """The methods of all routes with the path of a request; HEAD is answered wherever GET is."""
    methods = {
        method
        for route in routes
        if route.matches(scope)[0] is not Match.NONE
        for method in getattr(route, "methods", None) or ()
    }
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def problems_page() -> str:
    """The page of all types, with one section for each."""
    sections = (
        f'<h2 id="{name}">{escape(kind.title)}</h2>\n'
        f"<p><code>{type_uri(name)}</code>, status {kind.status}</p>\n"
        f"<p>{escape(kind.meaning)}</p>\n<p>{escape(kind.action)}</p>"
        for name, kind in KINDS.items()
    )
    head = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Problems</title></head>'
    return f"{head}\n<body>\n<h1>Problems</h1>\n" + "\n".join(sections) + "\n</body></html>\n"
