"""What a request for a route of the API meets: authentication and limits."""

import hmac

from fastapi import HTTPException, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from heart.http.admission import Admission, again, header, whole_body

JSON = (b"application/json", b"application/json; charset=utf-8")


def protected(
    admission: Admission, max_body_bytes: int, token: str | None, direct: bool = False
) -> type[APIRoute]:
    """A route class whose routes are authenticated and limited before FastAPI sees a request.

    With `direct`, a valid body of JSON without a query goes straight from pydantic to the endpoint,
    whose only argument it is and which gives a `Response`: FastAPI's own way to it takes longer than
    scoring the patient and logging it. All else, and so every refusal, goes FastAPI's way.
    """

    class Protected(APIRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] not in (self.methods or ()):
                await super().handle(scope, receive, send)  # says which methods there are
                return
            authenticate(scope, token)
            body = await whole_body(scope, receive, max_body_bytes, admission)
            response = await self._directly(scope, body) if direct else None
            if response is None:
                await super().handle(scope, again(body, receive), send)
                return
            await response(scope, receive, send)

        async def _directly(self, scope: Scope, body: bytes) -> Response | None:
            usual = not scope["query_string"] and header(scope, b"content-type") in JSON
            if not usual or self.body_field is None:
                return None
            model: type[BaseModel] = self.body_field.field_info.annotation  # type: ignore[assignment]
            try:
                given = model.model_validate_json(body)
            except ValidationError:
                return None
            response: Response = await self.endpoint(given)
            return response

    return Protected


def authenticate(scope: Scope, token: str | None) -> None:
    """Raise 401 unless the request carries the bearer token; none is asked for where none is set."""
    if token is None:
        return
    if not hmac.compare_digest(header(scope, b"authorization"), f"Bearer {token}".encode()):
        raise HTTPException(401, "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})


def unavailable(reason: str, retry_after: float) -> JSONResponse:
    """A refusal for now."""
    seconds = str(max(1, round(retry_after)))
    return JSONResponse({"detail": reason}, 503, headers={"Retry-After": seconds})
