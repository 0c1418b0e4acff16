"""Types of settings that are addresses: of the service, of a key set, and of pages that may call it."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from heart.addresses import HTTP, check_url

ORIGIN = re.compile(r"https?://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(word for part in value.split(",") if (word := part.strip()))
    return value


def _are_origins(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not ORIGIN.fullmatch(value):
            raise ValueError(
                f"{value!r} is not an origin: expected scheme, host and port as a browser sends them, such as "
                "https://ehr.example.org; * is not allowed"
            )
    return values


def _is_url(value: str) -> str:
    if not value:
        return ""
    check_url(value)
    parts = urlsplit(value)
    if parts.scheme not in HTTP or not parts.hostname or parts.query:
        raise ValueError(f"{value!r} is not a URL: expected one such as https://heart.example.org")
    return value.rstrip("/")


def _is_key_source(value: str) -> str:
    if "://" not in value:
        if value and not Path(value).is_file():
            raise ValueError(f"{value} does not exist, expected a JSON Web Key Set")
        return str(Path(value).absolute()) if value else ""
    check_url(value)
    parts = urlsplit(value)
    if parts.scheme != "https" and not (
        parts.scheme == "http" and is_loopback(parts.hostname or "")
    ):
        raise ValueError(
            f"{value!r} is neither a file nor an https URL: over http another machine could send other keys"
        )
    return value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Origins = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_are_origins)
]
ServiceUrl = Annotated[str, AfterValidator(_is_url)]
KeySource = Annotated[str, AfterValidator(_is_key_source)]
