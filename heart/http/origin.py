"""From a browser, only the service's own pages may use it.

A browser sends requests to this service for any page that it shows: with the visitor's cookies, or to a
service without a token. Requests for other pages are rejected before anything else is done, by three
headers that a page cannot set:

- `Host` must be an allowed name or an IP address (`heart/http/hosts.py` says why).
- `Sec-Fetch-Site` tells whether a page of another origin sent the request. Another port or another
  subdomain is another origin, although it is the same site for cookies and `SameSite`.
- `Origin` must be the origin that the request is for. Browsers send no `Sec-Fetch-Site` over plain HTTP
  except to this machine, but send `Origin` with every POST.

Programs send neither `Sec-Fetch-Site` nor `Origin` and are not affected. Go's
`net/http.CrossOriginProtection` makes the same checks.
"""

import json
from collections.abc import Callable, Iterable
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heart.http.hosts import AllowedHosts, Authority, parse_authority

Headers = Iterable[tuple[bytes, bytes]]

SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        b"connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; "
        b"frame-ancestors 'none'",
    ),
]
SECURITY_NAMES = frozenset(name for name, _ in SECURITY_HEADERS)
STORED_NOWHERE = [(b"cache-control", b"no-store"), *SECURITY_HEADERS]
RESTRICTED_ATTRIBUTES = (b"secure", b"httponly", b"samesite", b"domain", b"partitioned")

OWN_SITES = (None, b"same-origin", b"none")  # none: an address that was typed in, or a bookmark
DEFAULT_PORTS = {b"http": 80, b"https": 443}
# Where a GET request changes something or returns a session's data: no links from other sites.
NO_LINKS = ("/logout", "/gradio_api/")
MAX_SHOWN = 100  # characters of a header in an error message


class Rejection(NamedTuple):
    """The response to a request that is rejected."""

    status: int
    detail: str


def _ignore(_method: str, _status: int) -> None:
    pass


class SameOriginMiddleware:
    """Rejects requests of other origins' pages, and restricts every response to the own origin.

    It must be the outermost middleware. No response has CORS headers, every cookie is sent to this
    host only and hidden from scripts.
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_restricted(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = restricted(message.get("headers", ()), scope)
            await send(message)

        rejection = self._check(scope)
        if rejection is None:
            await self.app(scope, receive, send_restricted)
        else:
            self.on_reject(scope["method"], rejection.status)
            await _reject(send_restricted, rejection)

    def _check(self, scope: Scope) -> Rejection | None:
        headers = dict(scope["headers"])
        if len(headers) < len(scope["headers"]):
            headers = joined(scope["headers"])
        target = headers.get(b"host", b"")
        rejection = self._check_host("Host", target)
        if rejection is None and b"x-forwarded-host" in headers:
            # Set by a proxy or a program: a page cannot send it to another origin. The first value is
            # that of the outermost proxy.
            proxied = [value.strip() for value in headers[b"x-forwarded-host"].split(b",")]
            checks = (self._check_host("X-Forwarded-Host", value) for value in proxied)
            rejection, target = next(filter(None, checks), None), proxied[0]
        return rejection or self._check_origin(scope, headers, target)

    def _check_host(self, header: str, value: bytes) -> Rejection | None:
        authority = parse_authority(value)
        if authority is None:
            return Rejection(
                400,
                f"the request's {header} is {_shown(value)}: expected one host name or IP address, "
                "with or without a port",
            )
        if authority in self.hosts:
            return None
        return Rejection(
            421,
            f"the request's {header} {_shown(value)} is not allowed: use localhost or an IP address, "
            f"or add the name to {self.setting}",
        )

    def _check_origin(
        self, scope: Scope, headers: dict[bytes, bytes], target: bytes
    ) -> Rejection | None:
        """`target` is the host and port that the request is for."""
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        if site not in OWN_SITES and not is_link(scope, headers):
            return Rejection(
                403,
                f"a page of another origin sent this request (Sec-Fetch-Site: {_shown(site)}): only "
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
                f"is not that of {_shown(target)}: only programs and the service's own pages may call "
                "it, and a proxy must pass the header Host on or set X-Forwarded-Host, with the port"
            )
        return Rejection(403, f"the request's Origin {_shown(origin)} {reason}")


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
        and not scope["path"].startswith(NO_LINKS)
    )


def joined(headers: Headers) -> dict[bytes, bytes]:
    """Headers by name. Repeated ones become one list with commas (RFC 9110, section 5.2)."""
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        values[name] = values[name] + b", " + value if name in values else value
    return values


def restricted(headers: Headers, scope: Scope) -> list[tuple[bytes, bytes]]:
    """A response's headers without CORS, with restricted cookies and the security headers."""
    kept, has_cache_control = [], False
    for name, value in headers:
        if name in SECURITY_NAMES or name.startswith(b"access-control-"):
            continue
        if name == b"set-cookie":
            kept.append((name, restricted_cookie(value, is_https(scope))))
            continue
        has_cache_control = has_cache_control or name == b"cache-control"
        kept.append((name, value))
    return kept + (SECURITY_HEADERS if has_cache_control else STORED_NOWHERE)


def restricted_cookie(cookie: bytes, secure: bool) -> bytes:
    """A Set-Cookie header with HttpOnly and SameSite=Lax, for this host only."""
    pair, *attributes = (part.strip() for part in cookie.split(b";"))
    kept = [a for a in attributes if a.partition(b"=")[0].lower() not in RESTRICTED_ATTRIBUTES]
    return b"; ".join([pair, *kept, b"HttpOnly", b"SameSite=Lax", *([b"Secure"] if secure else [])])


def is_https(scope: Scope) -> bool:
    """Whether the browser uses https, also behind a proxy that does not send X-Forwarded-Proto."""
    origins = (value for name, value in scope["headers"] if name == b"origin")
    return scope["scheme"] == "https" or any(origin.startswith(b"https:") for origin in origins)


def _shown(value: bytes | None) -> str:
    return repr((value or b"")[:MAX_SHOWN].decode("latin-1"))


async def _reject(send: Send, rejection: Rejection) -> None:
    body = json.dumps({"detail": rejection.detail}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": rejection.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
