"""A deadline for the client to read its response, on every route, with and without a concurrency slot.

A task and its slot are released when the response is sent, and `send` waits while the client reads nothing
and the buffers of the socket are full. Without a deadline, as many slow readers as there are slots would
stop the service. At the deadline the rest of the response is dropped; the handler then ends as if it had been sent,
because the prediction is in the log already:

    send(start)    kept back
    send(body 1)   start and body 1 are sent: 10 s for both
    send(body 2)   10 s more
                   TimeoutError: this part and all later ones are dropped, the slot is released

The start is kept back until the first part of the body since a deadline costs about as much as `send`.
`heart/http/deadlines.py` explains the deadline; `heart/http/limits.py` disconnects the slow reader.
"""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heart.http.deadlines import ClientDeadline


class ClientDeadlineMiddleware:
    """Drops the rest of a response that its client does not read in time."""

    def __init__(self, app: ASGIApp, deadline: ClientDeadline) -> None:
        self.app = app
        self.deadline = deadline

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine: one for each middleware would add up.
        if scope["type"] == "http":
            send = send_within(send, self.deadline)
        return self.app(scope, receive, send)


def send_within(send: Send, deadline: ClientDeadline) -> Send:
    """`send` that drops the rest of a response from the first part on that is not sent in time."""
    start: Message | None = None
    dropped = False

    async def send_or_drop(message: Message) -> None:
        nonlocal start, dropped
        if message["type"] == "http.response.start":
            start = message
        elif not dropped:
            try:
                with deadline:
                    if start is not None:
                        await send(start)
                        start = None
                    await send(message)
            except TimeoutError:
                dropped = True

    return send_or_drop
