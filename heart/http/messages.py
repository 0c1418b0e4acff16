"""ASGI requests without a framework, for middleware and for routes that read bodies themselves."""

from collections.abc import Awaitable

from starlette.types import Scope

# The result of `send` in a function without `async`, which passes it on. It has a name because a nested function
# evaluates its annotations for each request.
Sent = Awaitable[None]

# Methods without side effects (RFC 9110, section 9.2.1) that the programs here answer.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def header(scope: Scope, name: bytes) -> bytes:
    """The value of a request's header, by its name in lower case; empty if there is none.

    Repeated ones become one list with commas (RFC 9110, section 5.2). Two programs on the way of a request
    could otherwise read different ones. A list is invalid for a header that has one value.
    """
    content: bytes | None = None
    for key, value in scope["headers"]:  # without a generator: each request reads several headers
        if key == name:
            content = value if content is None else b"%b, %b" % (content, value)
    return content or b""


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """The values of a request's header, one for each time that it was sent."""
    return [value for key, value in scope["headers"] if key == name]


def route_path(scope: Scope, prefix: str = "") -> str:
    """The path of a request below the sub-path of the service (`heart/http/sub_path.py`).

    `prefix` is the sub-path for code that runs before the scope has it.
    """
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path") or prefix)
