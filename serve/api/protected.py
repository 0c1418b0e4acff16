"""Authentication, limits and validation of a request to a route of the API, before FastAPI handles it."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from heart.http.access import require_json
from heart.http.concurrency import SHORT_BODY_BYTES, ConcurrencyLimiter
from heart.http.request_body import read_body, replay
from heart.http.tokens import Token, Tokens
from serve.api.bodies import CSV, validate_batch, validate_body, validate_table
from serve.api.models import Batch
from serve.api.queries import StrictRoute
from serve.middleware.admission import has_slot
from serve.offload import Offload

# Validating a longer batch would block the event loop for some milliseconds.
LARGE_BATCH_BYTES = 64 * 1024
NOT_COUNTED = nullcontext()  # of a short body
# Keys in the scope of a request.
TOKEN, BODY = "heart.token", "heart.body"


@dataclass(frozen=True)
class Protection:
    """What the routes of the API share: their limits, the bearer tokens and the worker thread."""

    limiter: ConcurrencyLimiter
    max_body_bytes: int
    tokens: Tokens
    offload: Offload

    async def validate(self, model: Any, body: bytes, coding: str | None = None) -> Any:
        """A body as its model, a long batch in the worker thread; with a coding, a table. Raises InvalidBody."""
        if coding is not None:
            return await self.offload.run(validate_table, body, coding)
        if len(body) > LARGE_BATCH_BYTES:
            return await self.offload.run(validate_batch, body)
        return validate_batch(body) if model is Batch else validate_body(model, body)

    def route_class(self, required: str, *, direct: bool = False) -> type["ProtectedRoute"]:
        """The class of routes that require a scope of the token."""
        settings = {"protection": self, "token_scope": required, "direct": direct}
        return type("ProtectedRoute", (ProtectedRoute,), settings)


class ProtectedRoute(StrictRoute):
    """A route whose requests are authenticated and limited before FastAPI handles them.

    A body is validated here, since FastAPI would do so on the event loop and report every error.

    With `direct`, the endpoint is called here with the valid body, the model of the query and the request,
    and returns a `Response`: FastAPI's dependency resolution takes longer than scoring the patient and
    logging the prediction.
    """

    protection: ClassVar[Protection]
    token_scope: ClassVar[str]
    direct: ClassVar[bool]

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or raise why not."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)  # 405, with the methods there are
            return
        limiter = self.protection.limiter
        scope[TOKEN] = self.protection.tokens.identify(scope, self.token_scope)
        query = self.require_known(scope) if scope["query_string"] else {}
        body = await read_body(scope, receive, self.max_bytes, limiter, has_slot=has_slot(scope))
        if self.body_model is not None:
            kind = require_json(scope, *([CSV] if self.body_model is Batch else []))
            options: Any = self.validated(query) if self.direct else None
            coding = options.coding if kind == CSV else None
            is_long = len(body) > LARGE_BATCH_BYTES
            with limiter.long_body() if is_long else NOT_COUNTED:
                value = await self.protection.validate(self.body_model, body, coding)
                if self.direct:
                    scope[BODY] = body
                    response = await self.endpoint(value, options, Request(scope))
        if self.direct:
            await response(scope, receive, send)
        else:
            await APIRoute.handle(self, scope, replay(body, receive), send)

    @cached_property
    def body_model(self) -> Any:
        """The model of the body; None for a route without one."""
        return self.body_field and self.body_field.field_info.annotation

    @cached_property
    def max_bytes(self) -> int:
        """The maximum length of a body: only a batch may be longer than SHORT_BODY_BYTES."""
        if self.body_model is Batch:
            return self.protection.max_body_bytes
        return min(SHORT_BODY_BYTES, self.protection.max_body_bytes)


def token_of(scope: Scope) -> Token:
    """The token of a request to a protected route."""
    token: Token = scope[TOKEN]
    return token


def body_of(scope: Scope) -> bytes:
    """The body of a request to a protected route whose endpoint is called directly."""
    body: bytes = scope[BODY]
    return body
