"""The order of the middleware around the application, in one place.

From the outside in: request id, security headers, client deadline, sub-path, origin check, authentication, HEAD, admission
control, instrumentation, direct routes. Rejections of an outer middleware never reach an inner one, so shed requests have no
latency, but do have a deadline and security headers.
"""

from fastapi import FastAPI, Request, Response

from heart.http.concurrency import ConcurrencyLimiter, Overloaded
from heart.http.head import HeadMiddleware
from heart.http.hosts import AllowedHosts
from heart.http.origin import SameOriginMiddleware
from heart.http.problems import unavailable
from heart.http.request_id import RequestIdMiddleware
from heart.http.security_headers import SecurityHeadersMiddleware
from heart.http.sub_path import SubPath, SubPathMiddleware
from serve.metrics import Metrics
from serve.middleware.admission import OVERLOADED, AdmissionControlMiddleware
from serve.middleware.authentication import Authentication, AuthenticationMiddleware
from serve.middleware.deadlines import ClientDeadlineMiddleware
from serve.middleware.direct_routes import DirectRoutesMiddleware
from serve.middleware.instrumentation import InstrumentationMiddleware


def add_middleware(
    app: FastAPI,
    hosts: AllowedHosts,
    authentication: Authentication,
    limiter: ConcurrencyLimiter,
    metrics: Metrics,
    sub_path: SubPath = SubPath(),  # noqa: B008  # it cannot be changed
    *,
    access_log: bool = False,
) -> None:
    """Wrap an application in all middleware. The caller runs `limiter.deadline.enforce()`."""

    async def reject(_: Request, __: Exception) -> Response:
        metrics.rejections.inc()
        return unavailable(*OVERLOADED, retry_after=1)

    app.add_exception_handler(Overloaded, reject)
    app.add_middleware(
        DirectRoutesMiddleware,
        routes=app.router.routes,
        handlers=app.exception_handlers,
    )
    app.add_middleware(InstrumentationMiddleware, metrics=metrics, access_log=access_log)
    app.add_middleware(AdmissionControlMiddleware, limiter=limiter, on_shed=metrics.count_shed)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(
        AuthenticationMiddleware, authentication=authentication, on_reject=metrics.count_rejection
    )
    app.add_middleware(
        SameOriginMiddleware,
        hosts=hosts,
        setting="HEART_ALLOWED_HOSTS",
        on_reject=metrics.count_rejection,
    )
    app.add_middleware(SubPathMiddleware, sub_path=sub_path)
    app.add_middleware(ClientDeadlineMiddleware, deadline=limiter.deadline)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(RequestIdMiddleware)
