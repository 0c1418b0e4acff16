"""HEAD wherever GET is, as RFC 9110 requires of every server (section 9.1)."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """Answers HEAD like GET, without the body; the length is that of the body.

    Routes of FastAPI have only the methods that they name.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine: one for each middleware would add up.
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        if scope["method"] == "HEAD":
            return self.app({**scope, "method": "GET"}, receive, _without_body(send))
        return self.app(scope, receive, send)


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
