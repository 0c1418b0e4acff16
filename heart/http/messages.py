"""ASGI requests and responses without a framework, for middleware and for routes that read bodies themselves."""

import json

from starlette.types import Scope, Send

# Methods without side effects (RFC 9110, section 9.2.1) that the programs here answer.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def header(scope: Scope, name: bytes) -> bytes:
    """The value of a request's header, by its name in lower case; empty if there is none."""
    return next((value for key, value in scope["headers"] if key == name), b"")


def route_path(scope: Scope, prefix: str = "") -> str:
    """The path of a request below the sub-path of the service (`heart/http/sub_path.py`).

    `prefix` is the sub-path for code that runs before the scope has it.
    """
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path") or prefix)


def error_body(detail: str) -> bytes:
    """The JSON body of an error response, as FastAPI writes it."""
    return json.dumps({"detail": detail}).encode()


async def send_json(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Send a complete response with an encoded JSON body."""
    length = (b"content-length", str(len(body)).encode())
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"application/json"), length, *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})
