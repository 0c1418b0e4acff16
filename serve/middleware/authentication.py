"""Authentication before admission: a stranger takes no concurrency slot, and no memory for a body.

All requests that may change something need a token, except those of the page, which has sessions. A
log-in has neither, so it takes no slot; `serve/ui/visitors.py` limits how many there are. Safe methods take
no slot; the routes among them that need a token check it themselves. Every route of the API checks the
scope of the token.
"""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from heart.http.messages import SAFE_METHODS, route_path
from heart.http.problems import Problem, send_problem
from heart.http.tokens import CHALLENGE, Tokens
from serve.middleware.admission import takes_slot
from serve.page_paths import CALL, LOGIN

NO_SESSION = Problem("authentication-required", "log in on the page first", CHALLENGE)


class Authentication:
    """Who may send a request: with a token, or with a session of the page."""

    def __init__(
        self, tokens: Tokens, has_session: Callable[[Scope], bool], prefix: str = ""
    ) -> None:
        """Without tokens every request is allowed. `prefix` is the sub-path of the service."""
        self._tokens = tokens
        self._open = not tokens
        self._has_session = has_session
        self._prefix = prefix

    def rejection(self, scope: Scope) -> Problem | None:
        """The response to a request without permission."""
        if self._open or scope["method"] in SAFE_METHODS:
            return None
        path = route_path(scope, self._prefix)
        if path == LOGIN:
            return None
        if path == CALL:
            # Without a token of the service the page has no login, even if CDS clients have keys.
            return NO_SESSION if self._tokens.known and not self._has_session(scope) else None
        try:
            self._tokens.authenticate(scope)
        except Problem as error:
            return error
        return None

    def takes_slot(self, scope: Scope) -> bool:
        """Whether a request takes a concurrency slot; one without permission does not."""
        return takes_slot(scope, self._prefix) and self.rejection(scope) is None


class AuthenticationMiddleware:
    """Rejects requests without permission before anything is read or reserved for them."""

    def __init__(
        self,
        app: ASGIApp,
        authentication: Authentication,
        on_reject: Callable[[str, int], None],
    ) -> None:
        """`on_reject` takes the method and the status."""
        self.app = app
        self._authentication = authentication
        self._on_reject = on_reject

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine: one for each middleware would add up.
        rejection = self._authentication.rejection(scope) if scope["type"] == "http" else None
        if rejection is None:
            return self.app(scope, receive, send)
        self._on_reject(scope["method"], rejection.status_code)
        headers = [
            (name.lower().encode(), value.encode())
            for name, value in (rejection.headers or {}).items()
        ]
        return send_problem(send, rejection.kind, rejection.detail, headers)
