"""uvicorn's server with the limits of `heart/http/limits.py`."""

import resource
import socket
import time
from contextlib import suppress

import uvicorn

from heart.http.limits import Connections, HttpLimits
from heart.http.protocol import LimitedProtocol

# Of a response in the kernel; the rest stays in the process, where it is counted.
UNSENT_BYTES = 32 * 1024
MAX_FILES = 65_536


class LimitedServer(uvicorn.Server):
    """uvicorn's server with `LimitedProtocol`, and without web sockets, which no application here has."""

    server_state: Connections

    def __init__(self, config: uvicorn.Config, limits: HttpLimits | None = None) -> None:
        config.http, config.ws = LimitedProtocol, "none"
        super().__init__(config)
        self.limits = limits or HttpLimits()
        self.server_state = Connections(self.limits)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal; an interrupt from the keyboard is no error."""
        with suppress(KeyboardInterrupt):
            super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. Accepted connections inherit the socket options set here."""
        await super().startup(sockets)
        for listener in (s for server in self.servers for s in server.sockets):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; elsewhere only `unread_bytes` applies
                milliseconds = round(self.limits.unread_seconds * 1000)
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    async def on_tick(self, counter: int) -> bool:
        """Check the connections ten times a second."""
        self.server_state.sweep(time.monotonic())
        return await super().on_tick(counter)


def raise_file_limit() -> None:
    """Raise the limit of open files to the system's maximum: slow clients soon use up the usual 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
