"""Authentication of CDS clients: JSON Web Tokens (RFC 7519) that a configured key set verifies, as CDS Hooks asks.

    Authorization: Bearer HEADER.CLAIMS.SIGNATURE      one token for each request

    header   alg ES384 or RS384; kid, the key; typ JWT
    claims   iss, an allowed issuer; aud, the address of the route; exp, at most 5 minutes ahead; iat; jti, once

A header `jku`, which names a key set, is never followed. Everything that costs less than a signature is
checked before it. A used `jti` is remembered until its token has expired, in the memory of this process.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwt import JWTClaimsRegistry
from starlette.types import Scope

from heart.http.messages import route_path
from heart.http.problems import Problem
from heart.http.rate import RateLimit
from heart.http.tokens import CHALLENGE, FEEDBACK, PREDICT, Token, Tokens, bearer
from serve.fhir.cards import PATH, SERVICE_PATH
from serve.fhir.keys import ALGORITHMS, Keys

MAX_SECONDS = 300  # from now to `exp`
LEEWAY = 60  # seconds by which the clocks may differ
MAX_REMEMBERED = 100_000  # tokens, about 15 MB
# To verify a signature takes about a millisecond of the event loop. A flood of invalid ones may make CDS Hooks
# unavailable, but not the rest of the service.
INVALID_PER_MINUTE = 600
RESULT = "heart.cds_client"  # the key of the result in the scope of a request


class Replays:
    """The tokens that were used, until they have expired; their number is bounded."""

    def __init__(self, clock: Callable[[], float], limit: int = MAX_REMEMBERED) -> None:
        self._clock = clock
        self._limit = limit
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def use(self, issuer: str, identifier: str) -> None:
        """Raises 401 for a token that was used before, and 503 if too many are remembered."""
        now = self._clock()
        while self._until and next(iter(self._until.values())) < now:
            self._until.popitem(last=False)
        key = sha256(f"{issuer}\n{identifier}".encode()).digest()
        if key in self._until:
            raise rejection("the jti was used before: make a new token for each request")
        if len(self._until) >= self._limit:
            raise unavailable("too many requests of CDS clients in a few minutes")
        # All entries are kept for the same time, so the oldest is the first to end.
        self._until[key] = now + MAX_SECONDS + 2 * LEEWAY


class Clients(Tokens):
    """The tokens of a service whose routes for CDS Hooks require a token of a client instead."""

    def __init__(
        self,
        tokens: Tokens,
        keys: Keys,
        issuers: tuple[str, ...],
        url: str,
        prefix: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`url` is that of the service, `prefix` its sub-path."""
        super().__init__(tokens.known)
        self.keys = keys
        self._issuers = issuers
        self._url = url
        self._prefix = prefix
        self._clock = clock
        self._replays = Replays(clock)
        self._failures = RateLimit(INVALID_PER_MINUTE, clock)
        self._closed_until = 0.0

    def __bool__(self) -> bool:
        return True

    def authenticate(self, scope: Scope) -> Token:
        """The token of a request, whatever its scopes. Raises 401 without a valid one."""
        path = route_path(scope, self._prefix)
        if not path.startswith(f"{PATH}/"):
            return super().authenticate(scope)
        # The server, the middleware and the route ask; the `jti` may be used only once.
        if RESULT not in scope:
            try:
                scope[RESULT] = self._verify(bearer(scope), path)
            except Problem as error:
                scope[RESULT] = error
        result = scope[RESULT]
        if isinstance(result, Problem):
            raise result
        token: Token = result
        return token

    def _verify(self, text: bytes | None, path: str) -> Token:
        if text is None:
            raise rejection("a token of a CDS client is required")
        try:
            parts = jws.extract_compact(text)
            self._check(parts.headers(), json.loads(parts.payload), path)
            claims = self._decode(text)
            self._replays.use(claims["iss"], claims["jti"])
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise rejection(f"the token of the CDS client is not valid: {_reason(error)}") from None
        return Token(claims["iss"], frozenset({PREDICT, FEEDBACK}), "")

    def _decode(self, text: bytes) -> dict[str, Any]:
        """The claims of a token with a valid signature. Raises JoseError, and 503 after many invalid ones."""
        if self._clock() < self._closed_until:
            raise unavailable("too many invalid signatures")
        try:
            return jwt.decode(text, self.keys.current, algorithms=ALGORITHMS).claims
        except JoseError:
            self._closed_until = self._clock() + self._failures.take("signatures")
            raise

    def _check(self, head: Mapping[str, Any], claims: Any, path: str) -> None:
        """Check what costs less than the signature. Raises JoseError or ValueError."""
        if not isinstance(claims, dict) or "crit" in head:
            raise ValueError("the claims must be an object, and no extension may be critical")
        if head.get("alg") not in ALGORITHMS:
            raise ValueError(f"alg must be {' or '.join(ALGORITHMS)}")
        if str(head.get("typ")).upper() != "JWT":
            raise ValueError("typ must be JWT")
        if not self.keys.current:
            raise unavailable("the key set of the CDS clients could not be read yet")
        if head.get("kid") not in {key.kid for key in self.keys.current}:
            self.keys.want()
            raise ValueError(
                "kid is no key of the key set; after a change of keys, try again in a minute"
            )
        now = int(self._clock())
        JWTClaimsRegistry(
            now,
            LEEWAY,
            iss={"essential": True, "values": list(self._issuers)},
            aud={"essential": True, "values": [self._url + path, self._url + SERVICE_PATH]},
            exp={"essential": True},
            iat={"essential": True},
            jti={"essential": True},
        ).validate(claims)
        if claims["exp"] > now + MAX_SECONDS + LEEWAY:
            raise ValueError(f"exp must be at most {MAX_SECONDS} seconds ahead")


def _reason(error: Exception) -> str:
    """What is wrong, without any value of the token."""
    if isinstance(error, JoseError):
        return str(error.description or error.error)
    return str(error) if type(error) is ValueError else type(error).__name__


def rejection(detail: str) -> Problem:
    """The error for a request without a valid token."""
    return Problem("authentication-required", detail, CHALLENGE)


def unavailable(detail: str) -> Problem:
    """The error for a request whose token cannot be checked now."""
    return Problem("overloaded", detail, {"Retry-After": "30"})
