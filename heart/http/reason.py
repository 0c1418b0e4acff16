"""The reason of a failed request, for a command that called one of the programs here."""

from http import HTTPStatus
from typing import Any

MAX_SHOWN = 200  # characters of a response that is no problem of the programs here
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def reason_of(response: Any, token_hint: str) -> str:
    """The status and the reason of a response of httpx, with the hint if a token was refused."""
    try:
        reason = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        reason = response.text[:MAX_SHOWN]
    text = f"{response.url} answers {response.status_code}: {reason}"
    return f"{text}; {token_hint}" if response.status_code in REFUSED else text
