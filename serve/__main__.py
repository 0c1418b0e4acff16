"""`python -m serve`: the service, set up by HEART_... variables or .env (see .env.example)."""

import asyncio
import logging
import math
import os
import resource
import socket
import sys
import time
from contextlib import suppress
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from heart.predictions.log import LogConfigurationError, PredictionLog
from heart.settings import read
from monitoring.monitor import DriftMonitor
from monitoring.settings import DriftSettings
from serve.app import create_app
from serve.metrics import Metrics
from serve.model_manager import ModelManager
from serve.settings import Settings

# At the end: not ready first, so that nothing more is sent here; then answer what is in work.
LEAVE_SECONDS = 1.0
LAST_SECONDS = 0.3  # for requests that are on their way when nothing more is accepted
GRACE_SECONDS = 5  # an open tab of the page would hold up the end for ever
# Longer than proxies keep theirs: who closes first may close on a request that is on its way.
KEEP_ALIVE_SECONDS = 75
HEAD_SECONDS = 10  # after which a connection is closed whose request has not begun, or twice that
TICKS = 10  # of uvicorn's loop in a second
MAX_FILES = 65_536


class Server(uvicorn.Server):
    """Turns unready some time before it ends, and closes connections on which no request comes."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._silent: set[tuple[HttpToolsProtocol, object]] = set()
        self._ends_at = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        print(f"http://{address}  page /  documentation /docs  metrics /metrics", flush=True)

    async def on_tick(self, counter: int) -> bool:
        """What uvicorn does ten times a second, and now and then a look at the connections."""
        if counter % (HEAD_SECONDS * TICKS) == 0:
            self._close_silent()
        if time.monotonic() >= self._ends_at:
            self.should_exit = True
        return await super().on_tick(counter)

    def _close_silent(self) -> None:
        """Close where the head of a request is owed since the last look; uvicorn waits for ever."""
        http = [c for c in self.server_state.connections if isinstance(c, HttpToolsProtocol)]
        silent = {(connection, connection.cycle) for connection in http if _owes_head(connection)}
        for connection, _ in silent & self._silent:
            connection.transport.close()
        self._silent = silent

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

    def _protocol(self) -> HttpToolsProtocol:
        state = self.lifespan.state
        return HttpToolsProtocol(self.config, self.server_state, app_state=state)

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


def _owes_head(connection: HttpToolsProtocol) -> bool:
    between = connection.cycle is None or connection.cycle.response_complete
    return between and connection.timeout_keep_alive_task is None


def _allow_connections() -> None:
    """As many open files as may be: with the usual 1024 some slow clients would shut out all others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _log(settings: Settings, metrics: Metrics) -> PredictionLog:
    """The prediction log, started before the server, which would tell a refusal in a traceback."""
    try:
        log = PredictionLog(
            settings.log_url,
            retention_days=settings.log_retention_days,
            queue_limit=settings.log_queue,
            on_commit=metrics.committed,
        )
        log.start()
    except LogConfigurationError as error:
        sys.exit(f"error: HEART_LOG_URL: {error}")
    return log


def main() -> None:
    settings, drift = read(Settings), read(DriftSettings)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    _allow_connections()
    metrics = Metrics()
    log = _log(settings, metrics)
    champion = ModelManager(settings, metrics.reported)
    monitor = DriftMonitor(champion, log, drift)
    app = create_app(settings, champion, log, metrics, monitor=monitor)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # A line a request would hold who asked about whom; counts are in /metrics.
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        http=HttpToolsProtocol,
        server_header=False,
    )
    Server(config).run()


if __name__ == "__main__":
    main()
