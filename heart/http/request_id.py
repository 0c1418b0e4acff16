"""An id for each request: the client's X-Request-ID, or a random one. It is returned, and in every line of the log.

A client's id is taken if it is 1 to 64 letters, digits and `-_.`; an id of another form is replaced, since it could
forge lines of the log. Clients must not put anything of a patient into it.
"""

import re
from collections.abc import Awaitable
from random import getrandbits

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heart.http.messages import Sent, header
from heart.log_format import REQUEST_ID

NAME = b"x-request-id"
VALID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def new_id() -> str:
    """A random id. It is no secret, and the random numbers of the system take longer."""
    return f"{getrandbits(64):016x}"


def id_of(scope: Scope) -> str:
    """The id of a request: its client's, or a new one at each call."""
    sent = header(scope, NAME)
    return sent.decode() if sent and VALID.fullmatch(sent) else new_id()


class RequestIdMiddleware:
    """Gives each request its id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine: one for each middleware would add up.
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        request_id = id_of(scope)
        REQUEST_ID.set(request_id)
        name_and_id = (NAME, request_id.encode())

        def send_with_id(message: Message) -> Sent:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), name_and_id]
            return send(message)

        return self.app(scope, receive, send_with_id)
