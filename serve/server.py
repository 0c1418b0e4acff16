"""The service's HTTP server. It drains before it ends, so that a restart loses no request.

On SIGTERM it first reports that it is not ready, so that proxies send no new requests, and asks the clients
of open connections to close them. After LEAVE_SECONDS it stops accepting connections, answers what has
arrived within LAST_SECONDS more, and ends.
"""

import asyncio
import math
import os
import socket
import time
from contextlib import suppress
from types import FrameType

import uvicorn

from heart.http.limits import HttpLimits
from heart.http.protocol import LimitedProtocol
from heart.http.server import LimitedServer

LEAVE_SECONDS = 1.0  # proxies check readiness at least as often
LAST_SECONDS = 0.3  # for requests that were sent just before
CLOSE = (b"connection", b"close")


class DrainingServer(LimitedServer):
    """A server that ends some time after the signal, and answers everything that has reached it."""

    def __init__(self, config: uvicorn.Config, limits: HttpLimits | None = None) -> None:
        super().__init__(config, limits)
        state = config.app.state  # type: ignore[union-attr]
        self.server_state.gate = state.gate
        self.server_state.sub_path = state.sub_path.path
        self._ends_at = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and print the address."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        print(f"http://{address}  page /  documentation /docs  metrics /metrics", flush=True)

    async def on_tick(self, counter: int) -> bool:
        """End when the service has been unready for long enough."""
        if time.monotonic() >= self._ends_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer everything that was sent until now: proxies do not retry a POST request.

        uvicorn would drop connections that are not accepted yet, and those without a request so far.
        """
        listeners = [
            socket.socket(fileno=os.dup(listener.fileno()))
            for server in self.servers
            for listener in server.sockets
        ]
        for server in self.servers:
            server.close()
        for connection in [backlog for listener in listeners for backlog in _close(listener)]:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(LAST_SECONDS)
        await super().shutdown(sockets)

    def _protocol(self) -> LimitedProtocol:
        return LimitedProtocol(self.config, self.server_state, app_state=self.lifespan.state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain; a second signal ends the server at once."""
        limiter = self.config.app.state.limiter  # type: ignore[union-attr]
        if limiter.draining:
            super().handle_exit(sig, frame)
            return
        limiter.draining = True
        # uvicorn adds these to every response: the first list now, the second from the next second on.
        self.server_state.default_headers.append(CLOSE)
        self.config.encoded_headers.append(CLOSE)
        self._captured_signals.append(sig)
        self._ends_at = time.monotonic() + LEAVE_SECONDS


def _close(listener: socket.socket) -> list[socket.socket]:
    """Close a listening socket, and return the connections of its backlog."""
    listener.setblocking(False)
    backlog = []
    with listener, suppress(BlockingIOError):
        while True:
            backlog.append(listener.accept()[0])
    return backlog
