"""The service's server: it drains at its end, so that a restart loses no request."""

import asyncio
import math
import os
import socket
import time
from contextlib import suppress
from types import FrameType

import uvicorn

from heart.http.limits import HttpLimits, LimitedProtocol, LimitedServer

# At the end: not ready first, so that nothing more is sent here; then answer what is in work.
LEAVE_SECONDS = 1.0
LAST_SECONDS = 0.3  # for requests that are on their way when nothing more is accepted


class DrainingServer(LimitedServer):
    """Reports that it is not ready some time before it ends, and then answers what has reached it."""

    def __init__(self, config: uvicorn.Config, limits: HttpLimits | None = None) -> None:
        super().__init__(config, limits)
        self._ends_at = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
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
        """Answer what was sent here until the very end; a proxy sends no prediction twice.

        uvicorn would drop connections that wait to be accepted, and those without a request so far.
        """
        listeners = [
            socket.socket(fileno=os.dup(listener.fileno()))
            for server in self.servers
            for listener in server.sockets
        ]
        for server in self.servers:
            server.close()
        for connection in [waiting for listener in listeners for waiting in _last(listener)]:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(LAST_SECONDS)
        await super().shutdown(sockets)

    def _protocol(self) -> LimitedProtocol:
        return LimitedProtocol(self.config, self.server_state, app_state=self.lifespan.state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop being ready, and a moment later end; at once if told again."""
        admission = self.config.app.state.admission  # type: ignore[union-attr]
        if admission.draining:
            super().handle_exit(sig, frame)
            return
        admission.draining = True
        self._captured_signals.append(sig)
        self._ends_at = time.monotonic() + LEAVE_SECONDS


def _last(listener: socket.socket) -> list[socket.socket]:
    """Close a listening socket, and return the connections that waited in it."""
    listener.setblocking(False)
    waiting = []
    with listener, suppress(BlockingIOError):
        while True:
            waiting.append(listener.accept()[0])
    return waiting
