"""ASGI requests without a framework, for middleware and for routes that read bodies themselves."""

from starlette.types import Scope

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
