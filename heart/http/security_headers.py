"""Security headers of every response: no framing, no foreign scripts, no CORS; cookies and redirects for this host only."""

import re
from collections.abc import Awaitable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heart.http.messages import Sent

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
NO_STORE_HEADERS = [(b"cache-control", b"no-store"), *SECURITY_HEADERS]
# Scheme and host of a URL as browsers read it, also one that begins with // or with backslashes.
ORIGIN = re.compile(rb"(?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]{2}[^/\\?#]*")
RESTRICTED_ATTRIBUTES = (b"secure", b"httponly", b"samesite", b"domain", b"partitioned")


class SecurityHeadersMiddleware:
    """Adds the security headers to every response, removes CORS headers, restricts cookies and redirects.

    It must be the outermost middleware, so that it also sees the responses of the others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine: one for each middleware would add up.
        if scope["type"] != "http":
            return self.app(scope, receive, send)

        def send_restricted(message: Message) -> Sent:
            if message["type"] == "http.response.start":
                message["headers"] = restrict_headers(message.get("headers", ()), scope)
            return send(message)

        return self.app(scope, receive, send_restricted)


def restrict_headers(
    headers: Iterable[tuple[bytes, bytes]], scope: Scope
) -> list[tuple[bytes, bytes]]:
    """A response's headers without CORS, with restricted cookies and redirects and the security headers."""
    safe_headers, has_cache_control = [], False
    for name, value in headers:
        if name in SECURITY_NAMES or name.startswith(b"access-control-"):
            continue
        if name == b"set-cookie":
            safe_headers.append((name, restrict_cookie(value, is_https(scope))))
            continue
        has_cache_control = has_cache_control or name == b"cache-control"
        safe_headers.append((name, without_origin(value) if name == b"location" else value))
    return safe_headers + (SECURITY_HEADERS if has_cache_control else NO_STORE_HEADERS)


def restrict_cookie(cookie: bytes, secure: bool) -> bytes:
    """A Set-Cookie header with HttpOnly and SameSite=Lax, for this host only."""
    pair, *attributes = (part.strip() for part in cookie.split(b";"))
    safe_attributes = [
        a for a in attributes if a.partition(b"=")[0].lower() not in RESTRICTED_ATTRIBUTES
    ]
    return b"; ".join(
        [pair, *safe_attributes, b"HttpOnly", b"SameSite=Lax", *([b"Secure"] if secure else [])]
    )


def without_origin(location: bytes) -> bytes:
    """The path of a redirect, without the host that Starlette takes from the header Host.

    Behind a proxy that may be an address that clients cannot reach. No program here redirects to another one.
    """
    origin = ORIGIN.match(location)
    return b"/" + location[origin.end() :].lstrip(b"/\\") if origin else location


def is_https(scope: Scope) -> bool:
    """Whether the browser uses https, also behind a proxy that does not send X-Forwarded-Proto."""
    origins = (value for name, value in scope["headers"] if name == b"origin")
    return scope["scheme"] == "https" or any(origin.startswith(b"https:") for origin in origins)
