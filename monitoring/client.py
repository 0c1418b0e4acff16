"""The client of a running service for commands, which must not wait long for an address without one."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from heart.errors import UserError
from heart.settings import SharedSettings, read

ANSWER_SECONDS = 5.0  # limit of the wait for a first answer


@contextmanager
def service(url: str, seconds: float) -> Iterator[httpx.Client]:
    """A client with HEART_API_TOKEN that waits `seconds` for an answer. Raises UserError without a service."""
    token = read(SharedSettings).api_token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    with httpx.Client(base_url=url, headers=headers, timeout=seconds) as client:
        try:
            client.get("/health/live", timeout=ANSWER_SECONDS)
        except httpx.HTTPError as error:
            raise UserError(
                f"no service at {url}: {error or type(error).__name__}; start it, or give the address of "
                "one with --url (URL= of make)"
            ) from error
        yield client
