"""A service below a path of its proxy, such as https://example.org/heart/::

    browser            proxy                          application
    /heart/predict     passes the path on or          path /heart/predict, root_path /heart
                       removes the sub-path

ASGI has the sub-path in `root_path` and at the beginning of `path`. From both, frameworks find the route and
build the links and redirects that the browser follows through the proxy.
"""

import re
from collections.abc import Awaitable
from typing import Annotated, NamedTuple

from pydantic import AfterValidator
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from heart.http.messages import header_values, route_path
from heart.http.problems import SUB_PATH, send_problem

FORWARDED_PREFIX = b"x-forwarded-prefix"
# Without empty segments, which would make another host of a redirect, and without dots, which browsers remove.
PATTERN = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
MAX_LENGTH = 200
DIRECT_ONLY = "/metrics"
NOT_FOUND = "metrics are only for those who call the service without a proxy's sub-path"
INVALID = "X-Forwarded-Prefix: expected one path, such as /heart"


class SubPath(NamedTuple):
    """The sub-path of a service, and whether the header of the proxy may give another."""

    path: str = ""
    trust_forwarded: bool = False

    def forwarded(self, scope: Scope) -> str | None:
        """The sub-path of the header, None without a trusted one. Raises ValueError.

        Of several values one may be the client's, before or after that of the proxy.
        """
        values = header_values(scope, FORWARDED_PREFIX) if self.trust_forwarded else []
        if not values:
            return None
        prefix = values[0].decode("latin-1").removesuffix("/")
        if len(values) > 1 or not is_sub_path(prefix):
            raise ValueError
        return prefix


def _validate(value: str) -> str:
    path = value.rstrip("/")
    if path and not is_sub_path(path):
        raise ValueError(f"{value!r} is not a path: expected one such as /heart or /apps/heart")
    return path


RootPath = Annotated[str, AfterValidator(_validate)]  # a setting


def is_sub_path(path: str) -> bool:
    """Whether it is a path of letters, digits and `-._~` in segments that begin with a slash."""
    return len(path) <= MAX_LENGTH and PATTERN.fullmatch(path) is not None


class SubPathMiddleware:
    """Puts the sub-path into the scope, whether the proxy has removed it from the path or not.

    Metrics are not served below it, nor with the header of a proxy: one that blocks /metrics need not know
    the sub-path.
    """

    def __init__(self, app: ASGIApp, sub_path: SubPath) -> None:
        self.app = app
        self.sub_path = sub_path

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine: one for each middleware would add up.
        if scope["type"] != "http" or self.sub_path == SubPath():
            return self.app(scope, receive, send)
        prefix = self.sub_path.path
        SUB_PATH.set(prefix)  # always: the task may have that of another request
        try:
            forwarded = self.sub_path.forwarded(scope)
        except ValueError:
            return send_problem(send, "bad-request", INVALID)
        if forwarded is not None:
            prefix = forwarded
            SUB_PATH.set(prefix)
        if not prefix:
            return self.app(scope, receive, send)
        path: str = scope["path"]
        if path == prefix:
            # Without the slash, relative links of the page would leave the sub-path.
            return RedirectResponse(f"{prefix}/", 308)(scope, receive, send)
        passed_on = path.startswith(f"{prefix}/")
        scope = {**scope, "root_path": prefix, "path": path if passed_on else prefix + path}
        below = route_path(scope)
        # With a slash at the end, the router would redirect to the sub-path.
        direct = below == DIRECT_ONLY and not passed_on and forwarded is None
        if below.rstrip("/") == DIRECT_ONLY and not direct:
            return send_problem(send, "not-found", NOT_FOUND)
        return self.app(scope, receive, send)
