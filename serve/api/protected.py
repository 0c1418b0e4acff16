"""Authentication, limits and validation of a request to a route of the API, before FastAPI handles it."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from heart.http.access import media_type, require_json
from heart.http.concurrency import SHORT_BODY_BYTES, ConcurrencyLimiter
from heart.http.request_body import read_body, replay
from heart.http.tokens import Token, Tokens
from serve.api.bodies import CSV, validate_batch, validate_body, validate_table
from serve.api.models import Batch
from serve.api.queries import StrictRoute
from serve.middleware.admission import takes_slot
from serve.offload import Offload

# Validating a longer batch would block the event loop for some milliseconds.
LARGE_BATCH_BYTES = 64 * 1024
# Keys in the scope of a request.
TOKEN, BODY = "heart.token", "heart.body"


@dataclass(frozen=True)
class Protection:
    """What the routes of the API share: their limits, the bearer tokens and the worker thread."""

    limiter: ConcurrencyLimiter
    max_body_bytes: int
    tokens: Tokens
    offload: Offload

    def max_bytes(self, model: Any) -> int:
        """The maximum length of a body: only a batch may be longer than SHORT_BODY_BYTES."""
        if model is Batch:
            return self.max_body_bytes
        return min(SHORT_BODY_BYTES, self.max_body_bytes)

    async def validate(self, model: Any, body: bytes) -> Any:
        """A body as its model, a long batch in the worker thread. Raises InvalidBody."""
        if len(body) > LARGE_BATCH_BYTES:
            return await self.offload.run(validate_batch, body)
        return validate_batch(body) if model is Batch else validate_body(model, body)

    async def respond(
        self,
        scope: Scope,
        model: Any,
        body: bytes,
        endpoint: Callable[..., Any] | None,
        query: Any,
    ) -> Response | None:
        """Validate a body; the response of `endpoint`, if it is given, to the value and the query."""
        long, is_table = len(body) > LARGE_BATCH_BYTES, media_type(scope) == CSV
        with self.limiter.long_body() if long else nullcontext():
            if is_table:
                value = await self.offload.run(validate_table, body, query.coding)
            else:
                value = await self.validate(model, body)
            if endpoint is None:
                return None
            response: Response = await endpoint(value, query, Request(scope))
            return response

    def route_class(self, required: str, *, direct: bool = False) -> type[APIRoute]:
        """A class of routes that require a scope, authenticated and limited before FastAPI handles them.

        A body is validated here, since FastAPI would do so on the event loop and report every error.

        With `direct`, the endpoint is called here with the valid body, the model of the query and the
        request, and returns a `Response`: FastAPI's dependency resolution takes longer than scoring the
        patient and logging the prediction.
        """
        protection = self

        class ProtectedRoute(StrictRoute):
            token_scope = required

            async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
                if scope["method"] not in (self.methods or ()):
                    await super().handle(scope, receive, send)  # 405, with the methods there are
                    return
                scope[TOKEN] = protection.tokens.identify(scope, required)
                query = self.require_known(scope) if scope["query_string"] else {}
                model: Any = self.body_field and self.body_field.field_info.annotation
                limit = protection.max_bytes(model)
                body = await read_body(
                    scope, receive, limit, protection.limiter, has_slot=takes_slot(scope)
                )
                if model is not None:
                    response = await self._response(scope, model, body, query)
                    if response is not None:
                        await response(scope, receive, send)
                        return
                await APIRoute.handle(self, scope, replay(body, receive), send)

            async def _response(
                self, scope: Scope, model: Any, body: bytes, query: dict[str, str]
            ) -> Response | None:
                """The endpoint's response to a valid body; None if FastAPI has to call it."""
                require_json(scope, *([CSV] if model is Batch else []))
                if not direct:
                    return await protection.respond(scope, model, body, None, None)
                scope[BODY] = body
                options = self.validated(query)
                return await protection.respond(scope, model, body, self.endpoint, options)

        return ProtectedRoute


def token_of(scope: Scope) -> Token:
    """The token of a request to a protected route."""
    token: Token = scope[TOKEN]
    return token


def body_of(scope: Scope) -> bytes:
    """The body of a request to a protected route whose endpoint is called directly."""
    body: bytes = scope[BODY]
    return body
