"""From a browser, only the service's own pages may use it.

A browser sends requests to this service for any page that it shows: with the visitor's cookies, or to a
service without a token. Requests for other pages are rejected before anything else is done, by three
headers that a page cannot set:

- `Host` must be an allowed name or an IP address (`heart/http/hosts.py` explains why).
- `Sec-Fetch-Site` says whether a page of another origin sent the request. Another port or another
  subdomain is another origin, although it is the same site for cookies and `SameSite`.
- `Origin` must be the origin that the request is for. Browsers send no `Sec-Fetch-Site` over plain HTTP
  except to this machine, but send `Origin` with every POST.

Programs send neither `Sec-Fetch-Site` nor `Origin` and are not affected. Go's
`net/http.CrossOriginProtection` makes the same checks.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from heart.http.hosts import AllowedHosts, Authority, parse_authority
from heart.http.messages import route_path
from heart.http.problems import KINDS, send_problem

Headers = Iterable[tuple[bytes, bytes]]

OWN_SITES = (None, b"same-origin", b"none")  # none: an address that was typed in, or a bookmark
DEFAULT_PORTS = {b"http": 80, b"https": 443}
# Where a GET request changes something or returns a session's data: no links from other sites.
NO_LINKS = ("/logout", "/gradio_api/")
MAX_SHOWN = 100  # characters of a header in an error message


class Rejection(NamedTuple):
    """The response to a request that is rejected."""

    kind: str
    detail: str


def _ignore(_method: str, _status: int) -> None:
    pass


class SameOriginMiddleware:
    """Rejects requests of other origins' pages and requests for hosts that are not allowed.

    It must come before all other middleware except `SecurityHeadersMiddleware`.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: AllowedHosts,
        setting: str,
        on_reject: Callable[[str, int], None] = _ignore,
    ) -> None:
        """`setting` is the variable that adds hosts; `on_reject` takes the method and the status."""
        self.app = app
        self.hosts = hosts
        self.setting = setting
        self.on_reject = on_reject

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine: one for each middleware would add up.
        rejection = self._check(scope) if scope["type"] == "http" else None
        if rejection is None:
            return self.app(scope, receive, send)
        self.on_reject(scope["method"], KINDS[rejection.kind].status)
        return send_problem(send, *rejection)

    def _check(self, scope: Scope) -> Rejection | None:
        headers = dict(scope["headers"])
        if len(headers) < len(scope["headers"]):
            headers = headers_by_name(scope["headers"])
        target = headers.get(b"host", b"")
        rejection = self._check_host("Host", target)
        if rejection is None and b"x-forwarded-host" in headers:
            # Set by a proxy or a program: a page cannot send it to another origin. The first value is
            # that of the outermost proxy.
            proxied = [value.strip() for value in headers[b"x-forwarded-host"].split(b",")]
            checks = (self._check_host("X-Forwarded-Host", value) for value in proxied)
            rejection, target = next(filter(None, checks), None), proxied[0]
        if rejection or not (b"sec-fetch-site" in headers or b"origin" in headers):
            return rejection
        return self._check_origin(scope, headers, target)

    def _check_host(self, header: str, value: bytes) -> Rejection | None:
        authority = parse_authority(value)
        if authority is None:
            return Rejection(
                "bad-request",
                f"the request's {header} is {_quoted(value)}: expected one host name or IP address, "
                "with or without a port",
            )
        if authority in self.hosts:
            return None
        return Rejection(
            "host-not-allowed",
            f"the request's {header} {_quoted(value)} is not allowed: use localhost or an IP address, "
            f"or add the name to {self.setting}",
        )

    def _check_origin(
        self, scope: Scope, headers: dict[bytes, bytes], target: bytes
    ) -> Rejection | None:
        """`target` is the host and port that the request is for."""
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        if site not in OWN_SITES and not is_link(scope, headers):
            return Rejection(
                "other-origin",
                f"a page of another origin sent this request (Sec-Fetch-Site: {_quoted(site)}): only "
                "programs and the service's own pages may",
            )
        # A form of a page with the referrer policy `no-referrer` has the origin `null`.
        if origin is None or (origin == b"null" and site is not None):
            return None
        if site == b"same-origin":
            # The browser has compared the ports. The host is checked since a proxy may have replaced
            # the header Host, which would let DNS rebinding through.
            if parse_authority(origin.partition(b"://")[2]) in self.hosts:
                return None
            reason = f"is not allowed: add its host to {self.setting}"
        elif is_same_origin(origin, parse_authority(target), scope["scheme"]):
            return None
        else:
            reason = (
                f"is not that of {_quoted(target)}: only programs and the service's own pages may call "
                "it, and a proxy must pass the header Host on or set X-Forwarded-Host, with the port"
            )
        return Rejection("other-origin", f"the request's Origin {_quoted(origin)} {reason}")


def is_same_origin(origin: bytes, target: Authority | None, scheme: str) -> bool:
    """Whether a request's Origin is the host and port that it is for.

    Requests of https pages arrive as http behind a proxy that does not send X-Forwarded-Proto; an
    http page is never the origin of an https service.
    """
    page_scheme, _, rest = origin.partition(b"://")
    page, port = parse_authority(rest), DEFAULT_PORTS.get(page_scheme)
    if page is None or target is None or port is None:
        return False
    if page_scheme == b"http" and scheme == "https":
        return False
    return (page.host, page.port or port) == (target.host, target.port or port)


def is_link(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Whether a request opens a page in its own window or tab, as a link on another site does."""
    return (
        scope["method"] == "GET"
        and headers.get(b"sec-fetch-mode") == b"navigate"
        and headers.get(b"sec-fetch-dest") == b"document"
        and not route_path(scope).startswith(NO_LINKS)
    )


def headers_by_name(headers: Headers) -> dict[bytes, bytes]:
    """Headers by name. Repeated ones become one list with commas (RFC 9110, section 5.2)."""
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        values[name] = values[name] + b", " + value if name in values else value
    return values


def _quoted(value: bytes | None) -> str:
    return repr((value or b"")[:MAX_SHOWN].decode("latin-1"))
