"""ASGI requests without a framework, for middleware and for routes that read bodies themselves."""

from collections.abc import Awaitable

from starlette.types import Scope

# The result of `send` in a function without `async`, which passes it on. It has a name because a nested function
# evaluates its annotations for each request.
Sent = Awaitable[None]

# Methods without side effects (RFC 9110, section 9.2.1) that the programs here answer.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def header(scope: Scope, name: bytes) -> bytes:
    """The value of a request's header, by its name in lower case; empty if there is none."""
    for key, value in scope["headers"]:  # without a generator: each request reads several headers
        if key == name:
            content: bytes = value
            return content
    return b""


def route_path(scope: Scope, prefix: str = "") -> str:
    """The path of a request below the sub-path of the service (`heart/http/sub_path.py`).

    `prefix` is the sub-path for code that runs before the scope has it.
    """
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path") or prefix)
