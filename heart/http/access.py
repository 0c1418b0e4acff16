"""Who may use a route, and what is answered to those who cannot for now."""

import hmac
import re

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.types import Scope

from heart.http.admission import header


def authenticate(scope: Scope, token: str | None) -> None:
    """Raise 401 unless the request carries the bearer token; none is asked for where none is set."""
    if token is None:
        return
    if not hmac.compare_digest(header(scope, b"authorization"), f"Bearer {token}".encode()):
        raise HTTPException(401, "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})


def require_json(scope: Scope) -> None:
    """Raise 415 unless the content type is JSON.

    Forms on pages of other origins can send other types, without a CORS preflight.
    """
    given = header(scope, b"content-type").decode("latin-1")
    kind = given.partition(";")[0].strip().lower()
    if kind != "application/json" and not re.fullmatch(r"application/.+\+json", kind):
        raise HTTPException(
            415, f"the header Content-Type is {given[:100]!r}: expected application/json"
        )


def unavailable(reason: str, retry_after: float) -> JSONResponse:
    """A refusal for now."""
    seconds = str(max(1, round(retry_after)))
    return JSONResponse({"detail": reason}, 503, headers={"Retry-After": seconds})
