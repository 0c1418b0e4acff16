"""What a request for a route of the API meets before FastAPI: authentication, limits, validation."""

from contextlib import nullcontext
from typing import Any

from fastapi import Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from heart.http.access import authenticate, require_json
from heart.http.admission import SHORT, ConcurrencyLimiter, again, whole_body
from serve.api.bodies import validate_batch, validate_body
from serve.api.models import Batch
from serve.offload import Offload

LONG = 64 * 1024  # bytes of a batch: the event loop would validate it for some milliseconds


def protected(
    admission: ConcurrencyLimiter,
    max_body_bytes: int,
    token: str | None,
    offload: Offload,
    direct: bool = False,
) -> type[APIRoute]:
    """A route class whose routes are authenticated and limited before FastAPI sees a request.

    A body is validated here, since FastAPI would do so on the event loop and report every error. Only a
    batch may be longer than `SHORT`; a long one is validated in a thread.

    With `direct`, a valid body goes straight to the endpoint, whose only argument it is and which gives a
    `Response`, unless a query has parameters for it: FastAPI's own way to it takes longer than scoring the
    patient and logging it.
    """

    class Protected(APIRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] not in (self.methods or ()):
                await super().handle(scope, receive, send)  # says which methods there are
                return
            authenticate(scope, token)
            model: Any = self.body_field and self.body_field.field_info.annotation
            limit = max_body_bytes if model is Batch else min(SHORT, max_body_bytes)
            body = await whole_body(scope, receive, limit, admission)
            response = None if model is None else await self._answer(scope, model, body)
            if response is None:
                await super().handle(scope, again(body, receive), send)
                return
            await response(scope, receive, send)

        async def _answer(self, scope: Scope, model: Any, body: bytes) -> Response | None:
            """The endpoint's answer to a valid body; None if FastAPI has to ask it."""
            require_json(scope)
            long = len(body) > LONG
            with admission.long_body() if long else nullcontext():
                if long:
                    value = await offload.run(validate_batch, body)
                else:
                    value = validate_batch(body) if model is Batch else validate_body(model, body)
                if not direct or (scope["query_string"] and self.dependant.query_params):
                    return None
                response: Response = await self.endpoint(value)
                return response

    return Protected
