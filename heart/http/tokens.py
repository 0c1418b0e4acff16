"""Named bearer tokens: each has scopes, and the outcomes that it sends carry its name.

A setting holds all of them, one in a line or separated by semicolons:

    hospital predict,feedback kR2v...
    registry feedback 9xQe...

A request names no token, only its secret; the secret of every token is compared in constant time.
"""

import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from starlette.types import Scope

from heart.http.messages import header
from heart.http.problems import Problem

PREDICT, FEEDBACK, ADMIN, METRICS = "predict", "feedback", "admin", "metrics"
SCOPES = (PREDICT, FEEDBACK, ADMIN, METRICS)
DEFAULT = "default"  # the token of HEART_API_TOKEN
# Senders without a token: if none is set, and in logs from before tokens had names.
ANONYMOUS, UNKNOWN = "anonymous", "unknown"
NAME = re.compile("[a-z0-9][a-z0-9_.-]{0,39}")
SECRET = re.compile("[!-:<-~]{16,}")  # without the semicolon, which separates tokens
FORM = "expected NAME SCOPES SECRET, such as: hospital predict,feedback SECRET"
CHALLENGE = {"WWW-Authenticate": "Bearer"}


def bearer(scope: Scope) -> bytes | None:
    """What a request's header Authorization has after Bearer, which is in any case (RFC 9110, section 11.1)."""
    kind, _, secret = header(scope, b"authorization").partition(b" ")
    return secret if kind.lower() == b"bearer" else None


@dataclass(frozen=True)
class Token:
    """One token. Its secret is in no text form of it."""

    name: str
    scopes: frozenset[str]
    secret: str = field(repr=False)

    def require(self, scope: str) -> None:
        """Raise 403 unless the token has a scope."""
        if scope not in self.scopes:
            own = ", ".join(name for name in SCOPES if name in self.scopes)
            raise Problem(
                "insufficient-scope",
                f"the scope {scope} is required; the token {self.name} has: {own}",
            )


OPEN = Token(ANONYMOUS, frozenset(SCOPES), "")  # of every request, if no token is set


@dataclass(frozen=True)
class Tokens:
    """All tokens of a service; without any, every request is allowed."""

    known: tuple[Token, ...] = ()

    def __iter__(self) -> Iterator[Token]:
        return iter(self.known)

    def __bool__(self) -> bool:
        return bool(self.known)

    def with_scope(self, scope: str) -> list[Token]:
        """The tokens that have a scope."""
        return [token for token in self.known if scope in token.scopes]

    def find(self, secret: bytes) -> Token | None:
        """The token with a secret. All are compared, so that the time does not depend on the position."""
        matches = [
            token for token in self.known if hmac.compare_digest(secret, token.secret.encode())
        ]
        return matches[0] if matches else None

    def identify(self, scope: Scope, required: str) -> Token:
        """The token of a request. Raises 401 without a valid one, 403 if it lacks the required scope."""
        if not self:
            return OPEN
        token = self.authenticate(scope)
        token.require(required)
        return token

    def authenticate(self, scope: Scope) -> Token:
        """The token of a request, whatever its scopes. Raises 401 without a valid one."""
        if not self:
            return OPEN
        secret = bearer(scope)
        token = None if secret is None else self.find(secret)
        if token is None:
            raise Problem(
                "authentication-required",
                "the header Authorization must be Bearer and a token of this service",
                CHALLENGE,
            )
        return token

    def login(self, user: str, password: str) -> Token | None:
        """The token of a login with its name and secret; DEFAULT takes any name that is no other token's."""
        token = self.find(password.encode())
        if token is None or not {PREDICT, FEEDBACK} <= token.scopes:
            return None
        others = {other.name for other in self.known} - {DEFAULT}
        is_own = user not in others if token.name == DEFAULT else user == token.name
        return token if is_own else None

    def sender(self, user: str | None) -> Token:
        """The token of a user who is logged in to the page."""
        by_name = {token.name: token for token in self.known}
        return by_name.get(user or "") or by_name.get(DEFAULT) or OPEN


def parse(text: str) -> tuple[Token, ...]:
    """The tokens of a setting. Raises ValueError with the entry's number or name, never with its secret."""
    entries = [entry for entry in re.split(r"[;\n]", text) if entry.strip()]
    tokens = [_token(number, entry) for number, entry in enumerate(entries, 1)]
    return check(tokens)


def check(tokens: list[Token]) -> tuple[Token, ...]:
    """The tokens, if no name and no secret is there twice. Raises ValueError."""
    for number, token in enumerate(tokens):
        for other in tokens[:number]:
            if token.name == other.name:
                raise ValueError(f"the token {token.name} is there twice: give each its own name")
            if token.secret == other.secret:
                raise ValueError(
                    f"the tokens {other.name} and {token.name} have the same secret: give each its own"
                )
    return tuple(tokens)


def _token(number: int, entry: str) -> Token:
    parts = entry.split()
    if len(parts) != len(("name", "scopes", "secret")):
        raise ValueError(f"token {number} has {len(parts)} parts: {FORM}")
    name, listed, secret = parts
    if not NAME.fullmatch(name) or name in (ANONYMOUS, UNKNOWN):
        raise ValueError(
            f"the name of token {number} must be 1 to 40 of a-z, 0-9, _ . - and neither "
            f"{ANONYMOUS} nor {UNKNOWN}: {FORM}"
        )
    scopes = listed.split(",")
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        # Not the text itself: with the parts in another order it is the secret.
        raise ValueError(
            f"{len(unknown)} of the scopes of the token {name} are unknown: expected some of "
            f"{', '.join(SCOPES)}"
        )
    if not SECRET.fullmatch(secret):
        raise ValueError(
            f"the secret of the token {name} must be at least 16 ASCII characters without spaces and ;"
        )
    return Token(name, frozenset(scopes), secret)
