"""Host names of the headers Host and Origin, and the setting of allowed hosts."""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

ANY = "*"
LOOPBACK = "localhost"  # the addresses 127.0.0.1 and ::1 are allowed as every address is
MAX_LENGTH = 253 + len(".:65535")
NAME = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
AUTHORITY = re.compile(
    rf"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>{NAME})\.?)(?::(?P<port>\d{{0,5}}))?"
)
SETTING = re.compile(rf"\*|(?:\*\.)?{NAME}\.?|\[[0-9a-f:.]+\]")


class Authority(NamedTuple):
    """The host and port of a URL."""

    host: str  # lower case, an address in its canonical form without brackets, no trailing dot
    port: int | None
    is_address: bool


def parse_authority(value: bytes) -> Authority | None:
    """The host and port of a Host header, or of an Origin header after the scheme; None if it has none."""
    return _parse(value) if len(value) <= MAX_LENGTH else None


@lru_cache(maxsize=256)
def _parse(value: bytes) -> Authority | None:
    match = AUTHORITY.fullmatch(value.decode("latin-1").lower())
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    if port is not None and port > 65535:
        return None
    try:
        return Authority(str(ip_address(match["ipv6"] or match["name"])), port, True)
    except ValueError:
        return Authority(match["name"], port, False) if match["name"] else None


class AllowedHosts:
    """The hosts under which a service may be called, against DNS rebinding.

    The owner of evil.example can let the name resolve to this service's address. For the browser the page
    and the service have the same origin then, and only the Host header still has evil.example. IP addresses
    are not resolved, so all are allowed: health checks and Prometheus call pods and containers by them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """`names` as in the setting: host names, *.DOMAIN for all subdomains, * for any name."""
        normalized = {name.lower().rstrip(".") for name in names}
        self._any = ANY in normalized
        self._names = {LOOPBACK, *normalized}
        self._suffixes = tuple(name[1:] for name in normalized if name.startswith("*."))

    def __contains__(self, authority: Authority | None) -> bool:
        return authority is not None and (
            authority.is_address
            or authority.host in self._names
            or authority.host.endswith(self._suffixes)
            or self._any
        )


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return [name for part in value.split(",") if (name := part.strip())]
    return value


def _validate(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not SETTING.fullmatch(name.lower()):
            raise ValueError(
                f"{name!r} is not a host: expected names without scheme, port and path, separated "
                "by commas, such as heart.example.org or *.example.org; * allows any"
            )
    return names


HostNames = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_validate)
]  # a setting
