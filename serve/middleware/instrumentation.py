"""Instrumentation: every response is timed and counted, every unexpected error is logged without its message."""

import logging
import time

from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heart.http.messages import Sent
from heart.http.problems import send_problem
from heart.log_format import describe
from serve.metrics import Metrics, method_label, route_label

# OpenTelemetry would record rejected values, and they describe patients.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
INTERNAL_ERROR = ("internal-error", "internal server error")
PAGE_ROUTE = "page"  # of requests that no route of the API matches

logger = logging.getLogger(__name__)
access = logging.getLogger("serve.access")


class InstrumentationMiddleware:
    """Times and counts responses; turns an exception that nothing handles into a 500.

    It catches such exceptions itself since Starlette and uvicorn would log their messages.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, access_log: bool = False) -> None:
        """With `access_log`, each response is a line of the log: method, route, status, milliseconds."""
        self.app = app
        self.metrics = metrics
        self.access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        def send_observed(message: Message) -> Sent:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        try:
            await self.app(scope, receive, send_observed)
        except Exception as error:  # noqa: BLE001  # whatever it is, its message must not be logged
            report_error(error)
            if not status:
                await send_problem(send_observed, *INTERNAL_ERROR)
        finally:
            # The route's template, never the path: a client may put anything into a path.
            path = getattr(scope.get("route"), "path", PAGE_ROUTE)
            seconds = time.perf_counter() - start
            self.metrics.observe_response(scope["method"], path, status or 500, seconds)
            if self.access_log:
                route = route_label(path)
                method, milliseconds = method_label(scope["method"]), 1000 * seconds
                access.info("%s %s %d %.1f ms", method, route, status or 500, milliseconds)


def report_error(error: Exception) -> None:
    """Log the type and place of an error. Its message may quote a patient's data."""
    logger.error("A request failed\n%s", describe(error))
