"""Cross-origin requests of browser-based CDS clients, for configured origins and the routes of CDS Hooks only.

It is the outermost middleware, since the others reject requests of other origins and remove CORS headers.
Inside, such a request is one of a program: its token decides, and no cookie is sent with it.
"""

from collections.abc import Awaitable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heart.http.messages import header, route_path
from serve.fhir.cards import PATH

PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-type"),
    (b"access-control-max-age", b"600"),
    (b"content-length", b"0"),
]
OF_BROWSERS = (b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest", b"cookie")


class CorsMiddleware:
    """Answers preflight requests, and lets pages of allowed origins read the responses."""

    def __init__(self, app: ASGIApp, origins: Iterable[str], prefix: str = "") -> None:
        """`prefix` is the sub-path of the service."""
        self.app = app
        self._origins = {origin.encode() for origin in origins}
        self._prefix = prefix

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or not self._allows(scope):
            return self.app(scope, receive, send)
        origin = header(scope, b"origin")
        added = [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method"):
            return _preflight(send, added + PREFLIGHT)

        async def send_readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        kept = [(name, value) for name, value in scope["headers"] if name not in OF_BROWSERS]
        return self.app({**scope, "headers": kept}, receive, send_readable)

    def _allows(self, scope: Scope) -> bool:
        path = route_path(scope, self._prefix)
        is_route = path == PATH or path.startswith(f"{PATH}/")
        return is_route and header(scope, b"origin") in self._origins


async def _preflight(send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
